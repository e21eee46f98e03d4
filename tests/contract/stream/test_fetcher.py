"""Whole runs of records out of what aiokafka has fetched, and that nothing of a fetch is kept afterwards."""

import gc
import weakref
from types import SimpleNamespace
from typing import Any

from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from app.stream import fetcher


def fetched(first: int, count: int) -> Any:
    """What a response of Kafka with one batch of records becomes."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    for n in range(count):
        builder.append(n, 1000, b"u1/d1", b"%d" % (first + n), [])
    data = bytearray(builder.build())
    data[0:8] = first.to_bytes(8, "big")
    return PartitionRecords(TP("t", 0), MemoryRecords(bytes(data)), [], first, None, None, True, 0)


def test_records_come_in_runs_and_from_where_reading_began() -> None:
    records = fetched(100, 50)
    records.next_fetch_offset = 110
    decoded = fetcher.BulkDecoder(records)
    assert [record.offset for record in decoded.take(15)] == list(range(110, 125))
    assert [record.offset for record in decoded.take(100)] == list(range(125, 150))
    assert decoded.exhausted
    assert records.next_fetch_offset == 150


def test_what_was_fetched_is_freed_at_once() -> None:
    """Not when the garbage collector looks at the oldest objects: with a slow database that is never."""
    gc.collect()
    gc.disable()
    try:
        for most in (10, 100):  # in part, as when a seek overtakes it, and whole
            result: Any = SimpleNamespace(_partition_records=fetched(0, 50))
            gone = weakref.ref(result._partition_records)
            decoded = fetcher._decoded(result)
            assert decoded is not None
            assert len(decoded.take(most)) == min(most, 50)
            del decoded
            result._partition_records = None
            assert gone() is None, most
    finally:
        gc.enable()
