"""One worker of the fleet, composed as in app.worker.bootstrap: the real path, processor, store, producer and adapters.

Its lives follow one another on the same disk. Faust's part, joining the group and recovering the states, is played here
in the order in which Faust does it.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.errors import IllegalStateError

from app.core.decode.decoder import DecodeLimits
from app.core.presence.device_classes import NOBODY, DeviceClasses
from app.core.presence.device_presence import PresenceLimits as PresenceLimits
from app.core.sweeper.sweeper import Sweeper, SweeperConfig
from app.core.user_config.rulebook import RuleBook
from app.kafka.access import Access
from app.kafka.dead_letter_reader import DeadLetterTail
from app.kafka.inactivity_claims import KafkaInactivityClaims
from app.kafka.producer import Producer
from app.kafka.topic_ids import TopicIdentity
from app.ports import Ports
from app.postgres.operator_advice import Advice
from app.settings import Settings
from app.stream.batches import BatchLimits
from app.stream.log_progress import log_positions
from app.stream.source import FaustSource
from app.worker.inactivity_task import InactivityTask
from app.worker.log_watch import LogWatch
from app.worker.watchdog import Watchdog
from tests.simulation.group import SESSION_SECONDS
from tests.simulation.kafka import ALERTS, CHANGELOG, INPUT, LETTERS
from tests.simulation.life import Life
from tests.simulation.link import Link
from tests.simulation.parts import Disk, Parts
from tests.simulation.script import SET_BACK_AFTER, Script
from tests.simulation.servers import Servers
from tests.simulation.stream import SimStream

RULES_SECONDS = 1.0
OFFLINE_AFTER = 3.0
CARE = SweeperConfig(poll=1.0, grace=2.0, lag_max=4.0, mass_share=1.0)
HEARTBEAT_SECONDS = SESSION_SECONDS / 3.5
RETRY_SECONDS = 0.5  # after one that failed; aiokafka's 0.1 would be most steps of an outage


class Worker:
    """One life of a worker."""

    def __init__(
        self,
        servers: Servers,
        name: str,
        disk: Disk,
        settings: Settings,
        parts: type[Parts],
        script: Script,
        world: str = "",
    ) -> None:
        self.servers, self.disk, self.life = servers, disk, Life(name)
        disk.superseded, disk.homeless = {}, set()
        self._world = world
        self._settings, self._parts, self._script = settings, parts, script
        self.rebalance = asyncio.Event()
        self.stopping = asyncio.Event()
        self.task = servers.world.loop.start(self.life, self._live())

    def _compose(self) -> None:
        settings, parts, world = self._settings, self._parts, self.servers.world
        interrupt = asyncio.Event()
        self.link = Link(world, self.life, "kafka")
        limits = BatchLimits(INPUT, settings.batch_max_rows, settings.batch_max_bytes, settings.buffer_max_bytes)
        self.consumer = parts.consumer(world, self.servers.kafka, self.servers.group, self.link, limits)
        self.stream = SimStream(self.consumer)
        self.lease = parts.lease(SESSION_SECONDS, interrupt, world.loop.time)
        sender = parts.producer(Access("simulated"), "out", interrupt, lease=self.lease)
        store = parts.store(settings, interrupt, lease=self.lease)
        store._breaker._clock, store._horizon._clock = world.loop.time, world.wall
        states = parts.states(self.disk, sender)
        self.rules = RuleBook()
        classes = DeviceClasses((), PresenceLimits(OFFLINE_AFTER)) if self._script.watched else NOBODY
        ids = self if self._world in ("anew", "changelog") else None
        self.logs = parts.logs(INPUT, self.consumer.events, ids, load=states.get, items=states.items)
        self.consumer.logs = self.logs
        self.processor = parts.processor(
            DecodeLimits(), self.rules, states.get, classes, in_memory=settings.devices_in_memory
        )
        self.processor._set_back_after = 0 if self._script.sampled else SET_BACK_AFTER
        self.processor.partitions._log_of = self.logs.of
        self._silences = Producer(Access("simulated"), "silence", interrupt, lease=self.lease)
        self.presence = InactivityTask(
            self.processor.partitions,
            Sweeper(self.processor.partitions, CARE),
            KafkaInactivityClaims(self._silences, INPUT),
            lambda: log_positions(self.consumer),
            states.items,
        )
        tail = DeadLetterTail(Access("simulated"), LETTERS, interrupt)
        # So low that any one user would reach it, if it counted for more than its share: no worker may end by it.
        limit = parts.limit(2, 0.05, 40, 0.5, lambda: ["u0", "u1"])
        ports = Ports(
            store=store,
            dead_letters=parts.dead_letters(sender, LETTERS, tail, limit),
            outbox=parts.outbox(sender, ALERTS),
            states=states,
            ledger=parts.ledger(limit),
            lease=self.lease,
        )
        self.pipeline = parts.pipeline(
            ports,
            self.processor,
            slots=settings.writes_in_flight + self.servers.kafka.partitions,
            interrupt=interrupt,
        )
        self.consumer.drain = lambda: self.pipeline.drain(settings.shutdown_timeout)
        self._store, self._sender, self._states = store, sender, states

    async def _live(self) -> None:
        self._compose()
        settings = self._settings
        await self._store.start()
        self._load_rules()
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(self.pipeline.run(FaustSource(self.stream, self.consumer))),
                group.create_task(self.stream.filling()),
                group.create_task(self.consumer.committing()),
                group.create_task(self._follow_rules()),
                group.create_task(self._heartbeats()),
                group.create_task(Watchdog(INPUT, settings.watchdog_seconds).watch(self.consumer)),
            ]
            if self.logs.ids is not None:
                watch = LogWatch(self, self.logs, self._states, Advice()).watch(self.consumer)
                work.append(group.create_task(watch))
            if self._script.watched:
                work.append(group.create_task(self.presence.run(CARE.poll)))
            await self._be_a_member()
            for task in work:
                task.cancel()
        await self._sender.stop()
        await self._silences.stop()
        await self._store.stop(1.0)
        self.link.close()

    async def _be_a_member(self) -> None:
        """Join, recover, work; let go when a rebalance or the end comes, wherever the recovery is."""
        stopping = asyncio.ensure_future(self.stopping.wait())
        recovery: asyncio.Future[None] | None = None
        self.consumer.begins()
        while not self.stopping.is_set():
            joined, partitions = await self._join()
            if recovery is not None:
                recovery.cancel()  # that of the rebalance before ends here, if it has not ended
                await asyncio.wait({recovery})
            recovery = asyncio.ensure_future(self._recover_all(joined, partitions))
            await self._until_rebalance(stopping, recovery)
            if not self.stopping.is_set():
                self.consumer.begins()
                await self.consumer.crossing()
            self.consumer.stop_flow()
            self.servers.world.lets_go()
            self.consumer.app.should_stop = self.stopping.is_set()
            await self.consumer.wait_empty()
            self.consumer.revoked()
        self.servers.group.leave(self.life)

    async def _until_rebalance(self, stopping: asyncio.Future[Any], recovery: asyncio.Future[None]) -> None:
        rebalance = asyncio.ensure_future(self.rebalance.wait())
        await asyncio.wait({stopping, rebalance, recovery}, return_when=asyncio.FIRST_COMPLETED)
        if recovery.done():
            recovery.result()
            await asyncio.wait({stopping, rebalance}, return_when=asyncio.FIRST_COMPLETED)
        rebalance.cancel()

    async def _join(self) -> tuple[int, frozenset[int]]:
        self.rebalance.clear()
        answer = await self._insist("join", lambda: self.servers.group.join(self.life, self.rebalance))
        generation, partitions = await answer
        await self._heartbeat()  # aiokafka's SyncGroup request
        return self.consumer.assign(generation, partitions), partitions

    async def _recover_all(self, joined: int, partitions: frozenset[int]) -> None:
        """In the order of app.tables.recovery, which asks for the same."""
        consumer = self.consumer
        self.servers.world.recovers()
        for partition in sorted(partitions):
            await self._recover(partition)
        if consumer.app.rebalancing_count != joined:
            return
        consumer.resume_partitions()
        try:
            await consumer.perform_seek()
        except IllegalStateError:
            return
        if consumer.flight.done:  # where another log begins
            consumer.something_done.set()
        await consumer.crossing()
        if consumer.app.rebalancing_count != joined:
            return
        self.stream.clear()
        consumer.resume(joined)

    async def ask(self, names: Sequence[str]) -> Mapping[str, TopicIdentity]:
        """Which topics there are."""
        found: Mapping[str, TopicIdentity] = await self.link.call("topics", lambda: self.servers.kafka.topics(names))
        return found

    async def _recover(self, partition: int) -> None:
        kafka = self.servers.kafka
        log, identity = kafka.log(CHANGELOG, partition), kafka.ids[CHANGELOG]
        after = self.disk.place(partition, len(log), identity)
        records = await self._insist(f"recover {partition}", lambda: log[after:])
        if records:
            self._states.recover(partition, records)
        await self._states.recovered(partition, identity)

    async def _insist(self, what: str, apply: Any) -> Any:
        while True:
            try:
                return await self.link.call(what, apply)
            except self.servers.world.kafka_errors:
                await asyncio.sleep(0.5)

    async def _heartbeats(self) -> None:
        """As aiokafka sends them: also while it lets go, and at once after a stall."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self._heartbeat()

    async def _heartbeat(self) -> None:
        """Tell the lease what the group says."""
        while True:
            asked = self.servers.world.loop.now
            with contextlib.suppress(*self.servers.world.kafka_errors):
                member = await self.link.call("heartbeat", lambda: self.servers.group.heartbeat(self.life))
                break
            await asyncio.sleep(RETRY_SECONDS)
        if member:
            self.lease.renew(asked)
        else:
            self.lease.end()

    def _load_rules(self) -> None:
        self.rules.apply({**self._script.rules, **self.servers.database.configs}.items())

    async def _follow_rules(self) -> None:
        if not self._script.edits:
            return
        known = dict(self.servers.database.configs)
        while True:
            await asyncio.sleep(RULES_SECONDS)
            if self.servers.database.configs != known:
                known = dict(self.servers.database.configs)
                self._load_rules()
