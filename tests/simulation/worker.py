"""A worker of the fleet: the parts of a real one (app.worker.parts) on the real store, producer and adapters.

Its lives follow one another on the same disk. Faust's part, joining the group and recovering the states, is played
in the order in which Faust does it.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.errors import IllegalStateError

from app.kafka.access import Access
from app.kafka.dead_letter_reader import DeadLetterTail
from app.kafka.producer import Producer
from app.kafka.topic_ids import TopicIdentity
from app.ops.events import StateReport
from app.postgres.operator_advice import Advice
from app.stream.batch_reader import FaustSource
from app.stream.batches import BatchLimits
from app.worker.backends import Backends
from app.worker.parts import build_parts
from tests.simulation.group import SESSION_SECONDS
from tests.simulation.kafka import CHANGELOG, INPUT, LETTERS
from tests.simulation.life import Life
from tests.simulation.link import Link
from tests.simulation.parts import Disk, Parts
from tests.simulation.script import Script
from tests.simulation.servers import Servers
from tests.simulation.shape import Shape, settings
from tests.simulation.stream import SimStream

RULES_SECONDS = 1.0
HEARTBEAT_SECONDS = SESSION_SECONDS / 3.5
RETRY_SECONDS = 0.5  # after one that failed; aiokafka's 0.1 would be most steps of an outage
ACCESS = Access("simulated")


class Worker:
    """A life of a worker."""

    def __init__(
        self, servers: Servers, name: str, disk: Disk, shape: Shape, classes: type[Parts], script: Script
    ) -> None:
        self.servers, self.disk, self.life = servers, disk, Life(name)
        disk.superseded, disk.homeless = {}, set()
        self._shape, self._settings = shape, settings(shape)
        self._classes, self._script = classes, script
        self.rebalance = asyncio.Event()
        self.stopping = asyncio.Event()
        self.task = servers.world.loop.start(self.life, self._live())

    def _build(self) -> None:
        settings = self._settings
        self.link = Link(self.servers.world, self.life, "kafka")
        self.consumer = self._consumer()
        self.stream = SimStream(self.consumer)
        self._backends = self._build_backends()
        self.lease, self.logs = self._backends.lease, self._backends.logs
        self.consumer.logs = self.logs
        self.parts = build_parts(settings, self._backends, self._classes)
        self.consumer.transport.drain = lambda: self.parts.pipeline.drain(settings.shutdown_timeout)

    def _consumer(self) -> Any:
        settings, servers = self._settings, self.servers
        limits = BatchLimits(INPUT, self._shape.batch_rows, settings.batch_max_bytes, settings.buffer_max_bytes)
        return self._classes.consumer(servers.world, servers.kafka, servers.group, self.link, limits)

    def _build_backends(self) -> Backends:
        settings, classes, world = self._settings, self._classes, self.servers.world
        interrupt = asyncio.Event()
        lease = classes.lease(SESSION_SECONDS, interrupt, world.loop.time)
        producer = classes.producer(ACCESS, "out", interrupt, lease=lease)
        store = classes.store(settings, interrupt, lease=lease)
        store._breaker._clock, store._horizon._clock = world.loop.time, world.wall
        self._states = classes.states(self.disk, producer)
        ids = self if self._shape.world in ("anew", "changelog") else None
        load, items = self._states.get, self._states.items
        return Backends(
            interrupt=interrupt,
            lease=lease,
            producer=producer,
            best_effort=Producer(ACCESS, "silence", interrupt, lease=lease),
            dead_letter_tail=DeadLetterTail(ACCESS, LETTERS, interrupt),
            topic_ids=self,
            logs=classes.logs(INPUT, self.consumer.events, ids, load=load, items=items),
            states=self._states,
            state_events=StateReport(),
            store=store,
            advice=Advice(),
            consumer=lambda: self.consumer,
            home=None,  # a partition is for its user's records, whatever their keys
        )

    async def _live(self) -> None:
        self._build()
        backends, parts = self._backends, self.parts
        await backends.store.start()
        self._load_rules()
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(parts.pipeline.run(FaustSource(self.stream, self.consumer.reader))),
                group.create_task(self.stream.filling()),
                group.create_task(self.consumer.committing()),
                group.create_task(self._follow_rules()),
                group.create_task(self._heartbeats()),
                group.create_task(parts.watchdog.watch(self.consumer)),
            ]
            if self.logs.ids is not None:
                work.append(group.create_task(parts.log_watch.watch(self.consumer)))
            if self._script.watched:
                work.append(group.create_task(parts.inactivity.run(self._settings.offline_poll)))
            await self._be_a_member()
            for task in work:
                task.cancel()
        await backends.producer.stop()
        await backends.best_effort.stop()
        await backends.store.stop(1.0)
        self.link.close()

    async def _be_a_member(self) -> None:
        """Join, recover, work; let go when a rebalance or the end comes, wherever the recovery is."""
        stopping = asyncio.ensure_future(self.stopping.wait())
        recovery: asyncio.Future[None] | None = None
        self.consumer.begins()
        while not self.stopping.is_set():
            joined, partitions = await self._join()
            if recovery is not None:
                recovery.cancel()  # the recovery of the rebalance before ends now, if it has not ended
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
        """In the order of app.stream.rebalance.order, which asks for the same."""
        consumer = self.consumer
        self.servers.world.recovers()
        identity = self.servers.kafka.ids[CHANGELOG]  # asked once, as there: what is made anew meanwhile is another
        for partition in sorted(partitions):
            await self._recover(partition, identity)
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

    async def _recover(self, partition: int, identity: str) -> None:
        log = self.servers.kafka.log(CHANGELOG, partition)
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
        """Pass on to the lease what the group says."""
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
        self.parts.rules.apply({**self._script.rules, **self.servers.database.configs}.items())

    async def _follow_rules(self) -> None:
        if not self._script.edits:
            return
        known = dict(self.servers.database.configs)
        while True:
            await asyncio.sleep(RULES_SECONDS)
            if self.servers.database.configs != known:
                known = dict(self.servers.database.configs)
                self._load_rules()
