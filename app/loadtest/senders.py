"""All devices of a run: connected, given their readings when these are due, and connected again after a failure."""

import asyncio
import itertools
import math
import random
import time
from collections.abc import Coroutine
from typing import Any

from app.errors import PermanentError, TransientError
from app.loadtest.connection import KEEP_ALIVE, DeviceConnection, LoadBroker, connected
from app.loadtest.device import LoadDevice
from app.loadtest.plan import LoadPlan
from app.loadtest.schedule import PERIOD, Profile
from app.loadtest.tracers import Tracer
from app.loadtest.traffic import Traffic
from app.runtime.interrupt import set_within
from app.runtime.retry import delay

AT_ONCE = 200  # connections that are being made
CONNECT_SECONDS = 60.0  # without one more connection
HEAD_START = 0.2  # seconds between the last connection and the first reading
TURN = 1000  # readings before the event loop has its turn
CHAOS_SHARE = 0.01  # of the connections, cut each second
CHAOS_STORM = 15  # seconds; then a third of them at once
FEW_REFUSED = 20  # with none accepted, that is what the broker makes of all of them
MANY_REFUSED = 10_000


class Senders:
    """The devices of a plan. Used in one event loop."""

    def __init__(
        self, plan: LoadPlan, broker: LoadBroker, password: str | None, traffic: Traffic, tracer: Tracer
    ) -> None:
        """`password`: of the users' accounts, where the run has made them."""
        self.plan, self.traffic = plan, traffic
        self.devices = [LoadDevice(plan, number, traffic, tracer, self.clock) for number in range(plan.devices)]
        self.planned = 0  # readings that have become due
        self._broker, self._password = broker, password
        self._connections: dict[int, DeviceConnection] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start = 0.0  # of the run, on the monotonic clock

    def clock(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self._start

    async def connect(self, stop: asyncio.Event) -> None:
        """Connect all devices: one first, which says what is wrong. Returns early when `stop` is set. Raises
        PermanentError and TransientError.
        """
        first = await self._connect(self.devices[0])
        self._spawn(self._keep(self.devices[0], first))
        for device in self.devices[1:]:
            self._spawn(self._keep(device))
        seen, since = 0, time.monotonic()
        while self.traffic.connected < len(self.devices) and not stop.is_set():
            await self._first_of_failure(0.05)
            if self.traffic.connected > seen:
                seen, since = self.traffic.connected, time.monotonic()
            elif time.monotonic() - since > CONNECT_SECONDS:
                why = self.traffic.last_failure or f"{self._broker} does not answer"
                raise TransientError(f"{seen:,} of {len(self.devices):,} devices are connected, and no more: {why}")

    async def run(self, profile: Profile, stop: asyncio.Event) -> None:
        """Send until the last reading is on its way, or `stop` is set; begins a moment later, which `plan.start_us` is
        then. Raises PermanentError when the broker refuses the readings.
        """
        self._start = time.monotonic() + HEAD_START
        self.plan.start_us = time.time_ns() // 1000 + int(HEAD_START * 1_000_000)
        self._spawn(self._ping())
        self._spawn(self._cut(profile))
        await self._pace(stop)

    async def drain(self, seconds: float, stop: asyncio.Event) -> None:
        """Wait for the PUBACKs that are due, for as long as one comes within `seconds`, or until `stop` is set."""
        answered, since = -1, time.monotonic()
        while any(device.waiting or device.sent < device.due for device in self.devices):
            now = self.traffic.acked + self.traffic.refused
            if now > answered:
                answered, since = now, time.monotonic()
            if time.monotonic() - since > seconds or await set_within(stop, 0.05):
                return
            self._check_refused()

    async def close(self) -> None:
        """End all connections, and the broker's sessions of them. Safe twice, and at any time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for connection in self._connections.values():
            connection.close()
        if self._connections:
            await asyncio.wait([one.closed for one in self._connections.values()], timeout=5)
        self._connections.clear()
        for device in self.devices:
            device.close()

    async def _connect(self, device: LoadDevice) -> DeviceConnection:
        return await connected(self._broker, device, self.plan.user(device.number), self._password)

    async def _keep(self, device: LoadDevice, made: DeviceConnection | None = None) -> None:
        """Keep a device connected until cancelled."""
        failures = 0
        while True:
            try:
                if made is None:
                    async with self._gate:
                        made = await self._connect(device)
            except PermanentError as error:
                if not self._failed.done():
                    self._failed.set_exception(error)
                    self._failed.exception()
                return
            except TransientError as error:
                self.traffic.last_failure, failures = str(error), failures + 1
                await asyncio.sleep(delay(failures))
                continue
            self._connections[device.number], failures = made, 0
            self.traffic.connected += 1
            try:
                self.traffic.last_failure = await asyncio.shield(made.closed)
            finally:
                self.traffic.connected -= 1
            del self._connections[device.number]
            self.traffic.reconnects, made = self.traffic.reconnects + 1, None

    async def _pace(self, stop: asyncio.Event) -> None:
        schedule, devices, total = self.plan.schedule, self.devices, self.plan.schedule.total
        due = schedule.due(0)
        while self.planned < total and not stop.is_set():
            now, turn = self.clock(), 0
            while due <= now and turn < TURN and self.planned < total:
                devices[self.planned % len(devices)].reading_due(due)
                self.planned, turn = self.planned + 1, turn + 1
                due = schedule.due(self.planned)
            self._check_refused()
            await asyncio.sleep(0 if turn == TURN else min(max(due - self.clock(), 0.001), 0.05))

    def _check_refused(self) -> None:
        """Raises PermanentError when the run makes no sense any more."""
        if self._failed.done():
            self._failed.result()
        refused = self.traffic.refused
        if refused >= (MANY_REFUSED if self.traffic.acked else FEW_REFUSED):
            words = ", ".join(f"{count:,} {word}" for word, count in self.traffic.refusals().items())
            topic = self.plan.topic(0)
            raise PermanentError(
                f"{self._broker} refuses the readings ({words}), such as on {topic}: use an account that may publish "
                "there, name the account's own user with --user, or have accounts made with --database-url"
            )

    async def _first_of_failure(self, seconds: float) -> None:
        await asyncio.wait({self._failed}, timeout=seconds)
        if self._failed.done():
            self._failed.result()

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(KEEP_ALIVE / 6)
            for connection in list(self._connections.values()):
                connection.ping(loop.time(), KEEP_ALIVE)

    async def _cut(self, profile: Profile) -> None:
        """Cut connections as the profile says; the devices come back at once."""
        for second in itertools.count(1):
            await asyncio.sleep(1.0)
            share = 0.0
            if profile is Profile.RECONNECT_STORM:
                share = float(second % PERIOD == 0)
            elif profile is Profile.CHAOS:
                share = 1 / 3 if second % CHAOS_STORM == 0 else CHAOS_SHARE
            if share:
                alive = list(self._connections.values())
                for connection in random.sample(alive, min(len(alive), math.ceil(share * len(alive)))):
                    connection.abort("cut by the load tester")
                    self.traffic.cut += 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))
