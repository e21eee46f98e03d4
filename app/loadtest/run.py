"""A run of the load tester from its users to its ledger."""

import asyncio
import gc
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct

from app.errors import IotStreamError, TransientError
from app.loadtest.connection import LoadBroker
from app.loadtest.database import LoadDatabase
from app.loadtest.findings import Findings, LoadLedger
from app.loadtest.latencies import Latencies
from app.loadtest.plan import LoadPlan
from app.loadtest.progress import LoadPhase, LoadProgress, LoadSample, sample
from app.loadtest.schedule import Profile, Schedule
from app.loadtest.senders import Senders
from app.loadtest.stored import StoredWatch
from app.loadtest.tracers import Tracer
from app.loadtest.traffic import Traffic
from app.runtime.interrupt import Interrupt, set_within
from app.runtime.tracing.tracing import Tracing
from app.settings import Settings

SECOND = 1.0
HURRY_SECONDS = 5.0  # for PUBACKs after Ctrl-C


class LoadAmount(Struct, frozen=True):
    """How much to send."""

    users: int
    devices_per_user: int
    rate: float  # messages a second of all devices together
    seconds: float
    profile: Profile


class LoadServers(Struct, frozen=True):
    """Where to send, and where to look."""

    broker: LoadBroker
    user: str | None  # an existing user, whose devices all are; None: users of the run's own
    accounts: bool  # make an account for each user
    database: Settings | None
    trace_ratio: float


class LoadEnd(Struct, frozen=True):
    """How a run ends."""

    patience: float  # seconds without progress until what is not there is missing
    keep: bool  # the users stay
    purge: bool  # the readings go too


class LoadRun:
    """One run. `samples` has one a second of it; `acks` and `rows` are the times of all of it."""

    def __init__(
        self,
        amount: LoadAmount,
        servers: LoadServers,
        end: LoadEnd,
        tracing: Tracing,
        show: Callable[[LoadProgress], None],
    ) -> None:
        """`show` gets the progress about once a second. To be made within the event loop."""
        schedule = Schedule(amount.profile, amount.rate, amount.seconds)
        run = secrets.token_hex(3)
        self.plan = LoadPlan(run, amount.users, amount.devices_per_user, schedule, user=servers.user)
        self.samples: list[LoadSample] = []
        self._amount, self._user, self._end, self._show = amount, servers.user, end, show
        self._traffic, self._notes = Traffic(), list[str]()
        password = secrets.token_urlsafe(24) if servers.accounts else None
        tracer = Tracer(self.plan, tracing, servers.trace_ratio)
        self._senders = Senders(self.plan, servers.broker, password, self._traffic, tracer)
        self._password = password
        self._database = LoadDatabase(servers.database, self.plan) if servers.database else None
        self._watch = StoredWatch(servers.database, self.plan, self._senders) if servers.database else None
        self._phase, self._seconds, self._problem = LoadPhase.PREPARING, 0.0, ""

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event) -> LoadLedger:
        """Send, wait, check, and clean up. `stop` ends the sending early, and there is no check then; `hurry` ends all
        waiting. Raises PermanentError and TransientError where nothing can be sent, or nothing be checked.
        """
        tasks = [asyncio.create_task(self._sample())]
        try:
            if not await self._is_prepared(stop):
                return self._ledger(None, interrupted=True)
            if self._watch:
                tasks.append(asyncio.create_task(self._watch.run()))
            await self._send(stop, hurry)
            findings = await self._check(stop)
            return self._ledger(findings, interrupted=stop.is_set())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._senders.close()
            await self._clean()

    @property
    def acks(self) -> Latencies:
        """From due to PUBACK."""
        return self._traffic.acks

    @property
    def rows(self) -> Latencies:
        """From due to row, of a sample; empty without a database."""
        return self._watch.latencies if self._watch else Latencies()

    async def _is_prepared(self, stop: asyncio.Event) -> bool:
        """Prepare the run; False: stopped before that was done, at once, whatever does not answer."""
        try:
            await Interrupt(stop).race(self._prepare(stop))
        except TransientError:
            if not stop.is_set():
                raise
            return False
        return True

    async def _prepare(self, stop: asyncio.Event) -> None:
        if self._database:
            await self._database.prepare(self._password)
        self._phase = LoadPhase.CONNECTING
        await self._senders.connect(stop)
        if self._database:
            self._phase = LoadPhase.RULES
            if not await self._database.rules_taken(stop) and not stop.is_set():
                self._notes.append("no worker has taken the rules of the run: its alerts will be missing")
        gc.collect()
        gc.freeze()  # thousands of connections need not be looked at again

    async def _send(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        self._phase = LoadPhase.SENDING
        await self._senders.run(self._amount.profile, stop)
        self._seconds = max(self._senders.clock(), 0.0)
        self._phase = LoadPhase.DRAINING
        await self._senders.drain(HURRY_SECONDS if stop.is_set() else self._end.patience, hurry)

    async def _check(self, stop: asyncio.Event) -> Findings | None:
        if not self._database or not self._watch or stop.is_set():
            return None
        self._phase = LoadPhase.STORING
        rows, since = -1, time.monotonic()
        while self._watch.rows < self._traffic.acked:
            if self._watch.rows > rows:
                rows, since = self._watch.rows, time.monotonic()
            if time.monotonic() - since > self._end.patience or await set_within(stop, 0.2):
                break
        if stop.is_set():
            return None
        self._phase = LoadPhase.CHECKING
        try:
            return await self._database.check(self._senders)
        except IotStreamError as error:
            self._problem = str(error)
            return None

    async def _clean(self) -> None:
        if self._database and not self._end.keep:
            self._phase = LoadPhase.CLEANING
            try:
                await self._database.remove(self._end.purge)
            except IotStreamError as error:
                self._notes.append(f"the users load-{self.plan.run}-* are still in the database: {error}")

    async def _sample(self) -> None:
        last = LoadSample(0, 0, 0, None, 0, 0, 0, 0, 0)
        due = time.monotonic()
        while True:
            now = self._sampled()
            if self._phase in (LoadPhase.SENDING, LoadPhase.DRAINING, LoadPhase.STORING) and now.at >= 0:
                self.samples.append(now)
            with suppress(OSError):  # the terminal is gone
                self._show(self._progress(now, last))
            last, due = now, due + SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _sampled(self) -> LoadSample:
        traffic, watch = self._traffic, self._watch
        counts = (traffic.sent, traffic.acked, watch.rows if watch else None, traffic.connected)
        at = self._senders.clock() if self.plan.start_us else 0.0
        return sample(at, counts, traffic.taken(), watch.taken() if watch else Latencies())

    def _progress(self, now: LoadSample, last: LoadSample) -> LoadProgress:
        span = max(now.at - last.at, 0.001) if now.at > last.at else 1.0
        traffic, watch = self._traffic, self._watch
        problem = traffic.last_failure if now.connected < self.plan.devices else ""
        return LoadProgress(
            phase=self._phase,
            now=now,
            devices=self.plan.devices,
            sent_a_second=(now.sent - last.sent) / span,
            acked_a_second=(now.acked - last.acked) / span,
            waiting=self._senders.planned - now.acked - traffic.refused,
            refused=traffic.refused,
            problem=problem or (watch.problem if watch else ""),
        )

    def _ledger(self, findings: Findings | None, interrupted: bool) -> LoadLedger:
        traffic, amount = self._traffic, self._amount
        self._sampled()  # what the last second has brought
        if findings is None and not self._database:
            self._notes.append("rows and alerts are not checked: name the database with --database-url")
        if findings and findings.alerts_expected is None:
            self._notes.append(f"alerts are not checked: the rules of {self._user} are not the run's own")
        return LoadLedger(
            profile=amount.profile.value,
            users=amount.users,
            devices=self.plan.devices,
            rate=amount.rate,
            wanted=self.plan.schedule.total,
            seconds=round(self._seconds, 3),
            sent=traffic.sent,
            acked=traffic.acked,
            unanswered=sum(device.waiting for device in self._senders.devices),
            refused=traffic.refusals(),
            nobody=traffic.nobody,
            resent=traffic.resent,
            reconnects=traffic.reconnects,
            cut=traffic.cut,
            late=traffic.behind.figures(),
            to_puback=self.acks.figures(),
            to_row=self.rows.figures(),
            findings=findings,
            interrupted=interrupted,
            problem=self._problem,
            notes=self._notes,
        )
