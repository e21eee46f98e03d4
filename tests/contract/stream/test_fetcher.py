"""Whole runs of records out of what aiokafka has fetched, and that nothing of a fetch stays in memory afterwards."""

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy
from faust.types import TP

import app.kafka.access  # noqa: F401  # every client takes its options there, and it installs the lenient reading
from app.kafka.fetch import fetcher
from app.kafka.fetch.lenient_records import KeptRecords, LenientPartition


def fetched(first: int, count: int) -> Any:
    """What a response of Kafka with one batch of records becomes."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    for n in range(count):
        builder.append(n, 1000, b"u1/d1", b"%d" % (first + n), [])
    data = bytearray(builder.build())
    data[0:8] = first.to_bytes(8, "big")
    return PartitionRecords(TP("t", 0), KeptRecords(bytes(data)), [], first, None, None, True, 0)


def test_records_come_in_runs_and_from_where_reading_began() -> None:
    records = fetched(100, 50)
    records.next_fetch_offset = 110
    decoded = fetcher.BulkDecoder(records)
    assert [record.offset for record in decoded.take(15)] == list(range(110, 125))
    assert [record.offset for record in decoded.take(100)] == list(range(125, 150))
    assert decoded.exhausted
    assert records.next_fetch_offset == 150


def test_a_run_ends_soon_after_its_bytes_and_the_next_begins_there() -> None:
    """A response is compressed: its records may be hundreds of times as large."""
    values = [b"x" * (10_000 if 100 <= n < 200 else 10) for n in range(300)]
    builder = DefaultRecordBatchBuilder(2, 4, False, -1, -1, -1, 1 << 24)
    for n, value in enumerate(values):
        builder.append(n, 1000, b"u1/d1", value, [])
    decoded = fetcher.BulkDecoder(
        source := PartitionRecords(TP("t", 0), KeptRecords(bytes(builder.build())), [], 0, None, None, True, 0)
    )
    runs = []
    while not decoded.exhausted:
        runs.append(decoded.take(250, 50_000))
    assert [record.value for run in runs for record in run] == values
    assert [record.offset for run in runs for record in run] == list(range(300))
    assert max(fetcher.value_bytes(run) for run in runs) <= 50_000 + fetcher.STEP * 10_000
    assert (len(runs[0]), len(runs)) == (120, 6)
    assert source.next_fetch_offset == 300
    assert len(fetcher.BulkDecoder(fetched(0, 300)).take(250, 50_000)) == 250


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


class Name(str):
    """A header's name that is written as a byte which is no UTF-8."""

    def encode(self, *_: str) -> bytes:
        return b"\xff"


def with_an_unreadable_name(first: int, count: int, at: int, codec: int) -> bytes:
    """A batch whose record `at` has such a header beside one that can be read."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, False, -1, -1, -1, 1 << 20)
    for n in range(count):
        headers = [(Name("x"), b"1"), ("kind", b"telemetry")] if n == at else [("kind", b"telemetry")]
        builder.append(n, 1000 + n, b"u1/d1", b"%d" % (first + n), headers)
    data = bytearray(builder.build())
    data[0:8] = first.to_bytes(8, "big")
    return bytes(data)


@pytest.mark.parametrize("codec", [0, 1, 4], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("at", [0, 13, 49])
@pytest.mark.parametrize("most", [1, 7, 1000])
def test_a_header_whose_name_is_no_utf8_is_read_like_any_other(codec: int, at: int, most: int) -> None:
    raw = b"".join(with_an_unreadable_name(first, 50, at, codec) for first in (100, 150, 200))
    source: Any = PartitionRecords(TP("t", 0), KeptRecords(raw), [], 120, None, None, True, 0)
    decoded, found = fetcher.BulkDecoder(source), []
    while not decoded.exhausted:
        found += decoded.take(most)
    assert [record.offset for record in found] == list(range(120, 250))
    assert [record.value for record in found] == [b"%d" % offset for offset in range(120, 250)]
    assert [record.timestamp for record in found] == [1000 + offset % 50 for offset in range(120, 250)]
    assert {record.key for record in found} == {b"u1/d1"}
    odd = [tuple(record.headers) for record in found if (record.offset - 100) % 50 == at]
    assert set(odd) == {(("\\xff", b"1"), ("kind", b"telemetry"))}
    assert source.next_fetch_offset == 250


@pytest.mark.parametrize("at", [0, 13, 49])
def test_a_poll_that_waits_reads_it_too(at: int) -> None:
    raw = b"".join(with_an_unreadable_name(first, 50, at, 0) for first in (100, 150, 200))
    source = LenientPartition(TP("t", 0), KeptRecords(raw), [], 120, None, None, True, 0)
    found = []
    for record in source:
        found.append(record)
        assert source.next_fetch_offset == record.offset + 1
    assert [record.value for record in found] == [b"%d" % offset for offset in range(120, 250)]
    assert {record.topic for record in found} == {"t"}
    assert source.next_fetch_offset == 250


def test_every_response_is_read_so() -> None:
    assert aiokafka_fetcher.MemoryRecords is KeptRecords
    assert aiokafka_fetcher.PartitionRecords is LenientPartition
