"""Device state in a Faust table: RocksDB beside the worker, the changelog topic behind it.

Faust opens, recovers and hands over the table; reading and writing go past its per-key path, which costs some 40 us
a key and would tie every write to one event. A write is: changelog acked by Kafka, then one atomic RocksDB batch
that holds the states and the changelog offset.
"""

import shutil
from collections.abc import Mapping
from typing import Any

import faust
import rocksdict
import structlog
from faust.events import Event
from faust.stores.rocksdb import Store
from faust.types import TP

from app.adapters.outgoing import Outgoing
from app.adapters.producer import Producer

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

    def write(self, partition: int, states: Mapping[bytes, bytes], offset: int) -> None:
        """Store states together with the changelog offset that covers them, all or nothing."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in states.items():
            batch.put(key, value)
        batch.put(self.offset_key, str(offset).encode())
        self._db_for_partition(partition).write(batch)


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

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The state of a device whose records come in `partition`."""
        return self._store.read(partition, key)

    async def put(self, states: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """Take {partition: {key: state}}; return once the changelog holds them, and RocksDB too.

        Raises TransientError when told to give up.
        """
        messages = [
            Outgoing(key, value, partition=partition)
            for partition, of_it in states.items()
            for key, value in of_it.items()
        ]
        for partition, offset in (await self._producer.send(self.changelog, messages)).items():
            self._store.write(partition, states[partition], offset)

    def persisted_offset(self, partition: int) -> int | None:
        """Changelog offset up to which RocksDB holds `partition`."""
        offset: int | None = self._store.persisted_offset(TP(self.changelog, partition))
        return offset

    @property
    def _store(self) -> StateStore:
        store: StateStore = self._table.data
        return store
