"""Device state in a Faust table: RocksDB beside the worker, the changelog topic behind it.

Faust opens, recovers and hands over the table; reading and writing go past its per-key path, which costs some 40 us
a key and would tie every write to one event. A write is: changelog acked by Kafka, then one atomic RocksDB batch
that holds the states and the changelog offset.

A stalled worker may write to the changelog after its partitions were given to another one. So a state is never
replaced by one that has seen less, and the offset that is recorded never passes records that were not read.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import faust
import rocksdict
import structlog
from faust.events import Event
from faust.stores.rocksdb import Store
from faust.types import TP

from app.adapters.outgoing import Outgoing
from app.adapters.producer import Producer
from app.core.changelog import newest

log = structlog.get_logger()

# Per partition; the defaults (2 GiB block cache each) are sized for one table on one machine.
ROCKSDB_OPTIONS = {
    "block_cache_size": 8 << 20,
    "write_buffer_size": 4 << 20,
    "max_open_files": 64,
    "bloom_filter_size": 10,
}


class ChangelogTopic(faust.Topic):  # type: ignore[misc]
    """The changelog, its keys and values left as bytes: nothing decodes them but app.core.state."""

    def _compile_decode(self) -> None:
        app = self.app

        async def decode(message: Any, *, propagate: bool = False) -> Event:
            return Event(app, message.key, message.value, None, message)

        self.decode = decode


class StateStore(Store):  # type: ignore[misc]
    """RocksDB, one database a partition; a corrupt one is removed and rebuilt from the changelog."""

    def _open_for_partition(self, partition: int) -> Any:
        try:
            return super()._open_for_partition(partition)
        except Exception as error:  # rocksdict raises nothing more exact; re-raised unless corrupt
            if "Corruption" not in str(error):
                raise
        path = self.partition_path(partition)
        log.error("state_corrupt_rebuilding", partition=partition, path=str(path))
        shutil.rmtree(path, ignore_errors=True)
        return super()._open_for_partition(partition)

    def read(self, partition: int, key: bytes) -> bytes | None:
        """The stored state of `key`, None when there is none."""
        value: bytes | None = self._db_for_partition(partition).get(key)
        return value

    def write(self, partition: int, states: Mapping[bytes, bytes | None], offset: int | None) -> None:
        """Store states (None deletes) together with the changelog offset that covers them, all or nothing.

        `offset` None leaves the recorded one where it is: recovery reads on from there.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in states.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if offset is not None:
            batch.put(self.offset_key, str(offset).encode())
        self._db_for_partition(partition).write(batch)

    @cached_property
    def overtaken(self) -> dict[int, set[bytes]]:
        """By partition: keys whose last record in the changelog is older than the state stored here."""
        return defaultdict(set)

    def apply_changelog_batch(
        self, batch: Iterable[Event], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Store what recovery has read, each key's newest state, and how far it has read."""
        read: dict[int, list[Any]] = defaultdict(list)
        for event in batch:
            read[event.message.partition].append(event.message)
        for partition, messages in read.items():
            records = [(message.key, message.value) for message in messages]
            states = newest(records, self._db_for_partition(partition).get, self.overtaken[partition])
            self.write(partition, states, max(message.offset for message in messages))


class StateTable(faust.Table):  # type: ignore[misc]
    """A Faust table whose store is a StateStore."""

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

    def __init__(self, app: faust.App, partitions: int, producer: Producer) -> None:
        self.changelog = f"{app.conf.id}-state-changelog"
        topic = ChangelogTopic(app, topics=[self.changelog], partitions=partitions, compacting=True, internal=True)
        self._table = StateTable(app, name="state", partitions=partitions, changelog_topic=topic, help="device state")
        app.tables.add(self._table)
        self._producer = producer
        self._foreign: set[int] = set()  # partitions whose changelog holds, since recovery, what we did not write

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The state of a device whose records come in `partition`."""
        return self._store.read(partition, key)

    async def put(self, states: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """Take {partition: {key: state}}; return once the changelog holds them, and RocksDB too.

        Raises TransientError when told to give up.
        """
        together = {partition: {**self._overtaken(partition), **of_it} for partition, of_it in states.items()}
        messages = [
            Outgoing(key, value, partition=partition)
            for partition, of_it in together.items()
            for key, value in of_it.items()
        ]
        for partition, offset in (await self._producer.send(self.changelog, messages)).items():
            follows = self._follows(partition, len(together[partition]), offset)
            self._store.write(partition, together[partition], offset if follows else None)
            self._store.overtaken.pop(partition, None)

    def _overtaken(self, partition: int) -> dict[bytes, bytes]:
        """States behind which a stalled worker wrote older ones: written again, they outlast compaction."""
        found = {key: self._store.read(partition, key) for key in self._store.overtaken.get(partition, ())}
        return {key: value for key, value in found.items() if value is not None}

    def _follows(self, partition: int, count: int, last: int) -> bool:
        """Whether the `count` states whose last is at `last` come right after those that RocksDB has.

        If not, somebody else has written in between: this worker was stalled and is no longer the owner, or the one
        before it was and wrote on; or a lost ack made us write twice. Both may go on, as recovery takes the newest of
        each key. It has to read what was not written here: so the recorded offset stays.
        """
        before = self.persisted_offset(partition)
        expected = (-1 if before is None else before) + count
        if last == expected:
            self._foreign.discard(partition)
            return True
        if partition not in self._foreign:
            self._foreign.add(partition)
            log.warning("state_changelog_shared", partition=partition, foreign_records=last - expected)
        return False

    def persisted_offset(self, partition: int) -> int | None:
        """Changelog offset up to which RocksDB holds `partition`."""
        offset: int | None = self._store.persisted_offset(TP(self.changelog, partition))
        return offset

    @property
    def _store(self) -> StateStore:
        store: StateStore = self._table.data
        return store
