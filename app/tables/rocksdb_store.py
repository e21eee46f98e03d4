"""The database of device states: RocksDB, one a partition, with the states and the changelog offset that they reach.

The changelog decides; a database that is corrupt is dropped and read anew. A database of a changelog that was deleted
and made anew since may be the only copy of its states: this database is kept, takes what is newer in the new changelog,
and is then written into the new changelog (app.tables.device_table).
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import rocksdict
import structlog
from aiokafka import ConsumerRecord
from faust.stores.rocksdb import Store
from faust.types import TP

from app.core.state.changelog import newest
from app.core.state.partition_log import NAMELESS

log = structlog.get_logger()

# Per partition; the defaults (2 GiB block cache each) are sized for one table on one machine.
HELD_KEY = b"__faust\0log__"  # beside Faust's offset: identity of the changelog that has all that is in the database
NOT_HELD = b"?"  # none has

INTERNAL = b"__faust\0"  # how keys begin under which the database keeps what it knows of itself
ROCKSDB_OPTIONS = {
    "block_cache_size": 8 << 20,
    "write_buffer_size": 4 << 20,
    "max_open_files": 64,
    "bloom_filter_size": 10,
}


class StateStore(Store):
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
        """The stored state of `key`, None when there is none. Raises what RocksDB raises."""
        value: bytes | None = self._db_for_partition(partition).get(key)
        return value

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every key with its state, as they were when the iteration began."""
        for key, value in self._db_for_partition(partition).items():
            if not key.startswith(INTERNAL):
                yield key, value

    def write(self, partition: int, states: Mapping[bytes, bytes | None], offset: int | None) -> None:
        """Store states by key (None deletes) together with the changelog offset that covers them, all or nothing.

        `offset` None leaves the recorded offset where it is: recovery reads on from there.
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
    def superseded(self) -> dict[int, set[bytes]]:
        """By partition: keys whose last record in the changelog is older than the state stored here."""
        return defaultdict(set)

    def place(self, partition: int, end: int, identity: str = "") -> int:
        """Offset from which the changelog, which ends before `end`, has still to be read; `identity` is its topic's,
        empty when not known.

        A database that is of another log, or has seen more than this log holds, has to be written into this log
        (`homeless`), and reads this log from 0.
        """
        database = self._db_for_partition(partition)
        seen: int | None = self.persisted_offset(TP(self.table_name, partition))
        held = database.get(HELD_KEY)
        other = held is not None and _named(held) and _named(identity.encode()) and held != identity.encode()
        if held == NOT_HELD or other or (seen is not None and seen >= end):
            log.error("state_changelog_made_anew", partition=partition, end=end, seen=seen, next="states are kept")
            self.homeless.add(partition)
            batch = rocksdict.WriteBatch(raw_mode=True)
            batch.delete(self.offset_key)
            batch.put(HELD_KEY, NOT_HELD)
            database.write(batch)
            return 0
        return 0 if seen is None else seen + 1

    def held(self, partition: int, identity: str, offset: int | None = None) -> None:
        """Note that all states of the partition are in the changelog of this identity; `offset` is that of the last
        state, None leaves the recorded offset where it is.
        """
        database = self._db_for_partition(partition)
        if offset is not None or database.get(HELD_KEY) != identity.encode():
            batch = rocksdict.WriteBatch(raw_mode=True)
            batch.put(HELD_KEY, identity.encode())
            if offset is not None:
                batch.put(self.offset_key, str(offset).encode())
            database.write(batch)
        if partition in self.homeless:
            self.homeless.discard(partition)
            self.superseded.pop(partition, None)

    @cached_property
    def homeless(self) -> set[int]:
        """Partitions whose states are not all in the changelog that is there."""
        return set()

    def take(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Store a run of the changelog, at least one record in offset order: each key's newest state, and how far it
        goes.

        Records that no worker writes are logged and left out.
        """
        known = self._db_for_partition(partition).get
        keyed = [(record.key, record.value) for record in records if _is_state(record.key)]
        if len(keyed) < len(records):
            log.error("state_changelog_foreign_records", partition=partition, records=len(records) - len(keyed))
        self.write(partition, newest(keyed, known, self.superseded[partition]), records[-1].offset)


def _named(identity: bytes) -> bool:
    return identity not in (b"", NAMELESS.encode())


def _is_state(key: bytes | None) -> bool:
    """Whether anything of this project has such a key; the database keeps its own beside them."""
    return key is not None and not key.startswith(INTERNAL)
