"""Device state in a Faust table: RocksDB beside the worker, the changelog topic behind it.

Faust opens and hands over the table; recovery, reading and writing go past its per-key path, which costs some 40 us a
key and would tie every write to one event. A write is: changelog acked by Kafka, then one atomic RocksDB batch
that holds the states and the changelog offset.

A stalled worker may write to the changelog after its partitions were given to another worker. So a state is never
replaced by a state that has seen less, and the offset that is recorded never passes records that were not read.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import faust
import structlog
from faust.types import TP

from app.core.state.changelog import marks_last
from app.errors import TransientError
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from app.tables.events import NoStateEvents, StateEvents
from app.tables.rocksdb_store import ROCKSDB_OPTIONS, StateStore

log = structlog.get_logger()

RETRY_SECONDS = 0.5
CHUNK = 1_000  # states in one go, when all of a partition are written


class StateTable(faust.Table):
    """A Faust table whose store is a StateStore."""

    owner: "FaustStates"

    def _new_store(self) -> StateStore:
        return StateStore(
            "rocksdb://?driver=rocksdict",
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            options={**ROCKSDB_OPTIONS, "driver": "rocksdict"},
        )


class FaustStates:
    """States behind the port: reads from RocksDB, writes through the changelog."""

    def __init__(self, app: faust.App, partitions: int, producer: Producer, events: StateEvents | None = None) -> None:
        """Put the table into the app, which opens it. `partitions` are those of the input topic and of the changelog.
        Without `events` nobody hears of states that are moved.
        """
        self.changelog = f"{app.conf.id}-state-changelog"
        topic = faust.Topic(app, topics=[self.changelog], partitions=partitions, compacting=True, internal=True)
        self._table = StateTable(app, name="state", partitions=partitions, changelog_topic=topic, help="device state")
        app.tables.add(self._table)
        self._table.owner = self
        self._producer = producer
        self._events: StateEvents = events or NoStateEvents()
        self._writing = asyncio.Lock()
        self.identity = ""  # of the changelog, as it was when states were recovered last
        self.begun_anew: set[int] = set()  # partitions whose changelog counts from 0 again
        self._foreign: set[int] = set()  # partitions whose changelog holds, since recovery, what we did not write

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The state of the device `key` whose records come in `partition`; None: there is none."""
        return self._store.read(partition, key)

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every key of `partition` with its state, as they were when the iteration began."""
        return self._store.items(partition)

    async def put(self, states: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """Take {partition: {key: state}}; return once the changelog holds them, and RocksDB too.

        Raises TransientError when interrupted.
        """
        async with self._writing:
            await self._put(states)

    async def _put(self, states: Mapping[int, Mapping[bytes, bytes]]) -> None:
        together = {partition: {**self._overtaken(partition), **of_it} for partition, of_it in states.items()}
        messages = [
            OutgoingMessage(key, value, partition=partition)
            for partition, of_it in together.items()
            for key, value in marks_last(of_it.items())
        ]
        for partition, offset in (await self._producer.send(self.changelog, messages)).items():
            follows = self._follows(partition, len(together[partition]), offset)
            self._store.write(partition, together[partition], offset if follows else None)
            self._store.superseded.pop(partition, None)

    async def recovered(self, partition: int, identity: str) -> None:
        """All that the changelog of this identity holds was read: write into the changelog what it lacks, trying
        again every RETRY_SECONDS for as long as writing is interrupted. An empty `identity`: the identity is not known.
        """
        self.identity = identity
        while partition in self._store.homeless:
            try:
                await self.move(partition, identity)
            except TransientError:  # a rebalance begins, which ends this recovery
                await asyncio.sleep(RETRY_SECONDS)
        self._store.held(partition, identity)

    async def move(self, partition: int, identity: str, ours: Callable[[], bool] = lambda: True) -> None:
        """Write all states of a partition into the changelog, which was made anew; nothing else is written meanwhile.

        Only the partition's owner calls this: the owner has the newest state of each key. Ends when the partition is
        not `ours` any more. Raises TransientError when interrupted.
        """
        async with self._writing:
            count, last, in_a_row = 0, None, True
            items = marks_last(self._store.items(partition))
            while chunk := list(islice(items, CHUNK)):
                if not ours():
                    return
                messages = [OutgoingMessage(key, value, partition=partition) for key, value in chunk]
                end = (await self._producer.send(self.changelog, messages))[partition]
                in_a_row = in_a_row and (last is None or end == last + len(chunk))
                count, last = count + len(chunk), end
            self._store.held(partition, identity, last if in_a_row else None)
            self.begun_anew.discard(partition)
        self._events.states_moved(partition, count)

    def _overtaken(self, partition: int) -> dict[bytes, bytes]:
        """States behind which a stalled worker wrote older ones: written again, they outlast compaction."""
        found = {key: self._store.read(partition, key) for key in self._store.superseded.get(partition, ())}
        return {key: value for key, value in found.items() if value is not None}

    def _follows(self, partition: int, count: int, last: int) -> bool:
        """Whether the `count` states whose last is at `last` come right after those that RocksDB has.

        If not, another worker has written in between: this worker was stalled and is no longer the owner, or the owner
        before was stalled and wrote on; or a lost ack made us write twice. Both may go on, as recovery takes the newest
        of each key. Recovery has to read what was not written here: so the recorded offset stays.
        """
        before = self.persisted_offset(partition)
        expected = (-1 if before is None else before) + count
        if last == expected:
            self._foreign.discard(partition)
            return True
        if last < expected:
            self.begun_anew.add(partition)
            return False
        if partition not in self._foreign:
            self._foreign.add(partition)
            log.warning("state_changelog_shared", partition=partition, foreign_records=last - expected)
        return False

    def persisted_offset(self, partition: int) -> int | None:
        """Changelog offset up to which, that included, RocksDB holds `partition`; None: nothing of it."""
        offset: int | None = self._store.persisted_offset(TP(self.changelog, partition))
        return offset

    @property
    def _store(self) -> StateStore:
        store: StateStore = self._table.data
        return store
