"""Whole runs of records out of what aiokafka has fetched, and that nothing of a fetch stays in memory afterwards."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import KafkaError
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


class Subscriptions:
    """What a client knows of its group."""

    reassignment_in_progress = False

    def __init__(self) -> None:
        self.waiting = 0

    @contextmanager
    def fetch_context(self) -> Iterator[None]:
        self.waiting += 1
        yield
        self.waiting -= 1

    def is_assigned(self, tp: TP) -> bool:
        return bool(tp.topic != "foreign")


def idle_client(**records: Any) -> Any:
    """A client that waits for Kafka; `records`: what it has fetched, by topic."""
    inside = SimpleNamespace(_closed=False, _subscriptions=Subscriptions(), _loop=asyncio.get_running_loop())
    inside._records = {TP(topic, 0): found for topic, found in records.items()}
    inside._fetch_waiters = set()
    inside._wait_consume_future, inside._notify = None, lambda future: None
    inside._create_fetch_waiter = lambda: aiokafka_fetcher.Fetcher._create_fetch_waiter(inside)
    return SimpleNamespace(_closed=False, _fetcher=inside)


ACTIVE = {TP("t", 0), TP("elsewhere", 0)}


async def come(client: Any, topic: str, found: Any) -> None:
    """Kafka answers: `found` is there, and all who wait hear of it."""
    client._fetcher._records[TP(topic, 0)] = found
    for waiter in list(client._fetcher._fetch_waiters):
        waiter.set_result(None)


async def no_waiter(client: Any) -> None:
    await asyncio.sleep(0)  # what is done takes itself out
    assert not client._fetcher._fetch_waiters


def result_of(source: Any) -> Any:
    made = aiokafka_fetcher.FetchResult.__new__(aiokafka_fetcher.FetchResult)
    made._partition_records, made._topic_partition = source, TP("t", 0)
    made.check_assignment = lambda tp: True
    made._update_position = lambda: None
    return made


async def test_records_that_come_while_a_poll_waits_come_in_runs() -> None:
    client = idle_client()
    poll = asyncio.ensure_future(fetcher.wait_ready(client, "t", ACTIVE, 40, 30.0))
    await asyncio.sleep(0)
    assert client._fetcher._subscriptions.waiting == 1
    await come(client, "t", result_of(fetched(100, 50)))
    found = await poll
    assert found is not None
    assert [record.offset for record in found[TP("t", 0)]] == list(range(100, 140))
    assert client._fetcher._subscriptions.waiting == 0
    await no_waiter(client)


async def test_what_a_seek_or_a_pause_has_overtaken_is_taken_by_nobody() -> None:
    """The response goes, so that its partition is fetched anew; the rest of the wait is aiokafka's."""
    client, overtaken = idle_client(), result_of(fetched(100, 50))
    overtaken.check_assignment = lambda tp: False
    poll = asyncio.ensure_future(fetcher.wait_ready(client, "t", ACTIVE, 40, 30.0))
    await asyncio.sleep(0)
    await come(client, "t", overtaken)
    assert await poll is None
    assert client._fetcher._records == {}


async def test_records_of_a_partition_without_room_stay() -> None:
    client, kept = idle_client(), result_of(fetched(100, 50))
    poll = asyncio.ensure_future(fetcher.wait_ready(client, "t", {TP("t", 1)}, 40, 30.0))
    await asyncio.sleep(0)
    await come(client, "t", kept)
    assert await poll is None
    assert client._fetcher._records == {TP("t", 0): kept}
    assert await fetcher.wait_ready(client, "t", {TP("t", 1)}, 40, 0.01) == {}  # nor does a poll hurry for them
    found = fetcher.take_ready(client, "t", ACTIVE, 100)
    assert [record.offset for record in found[TP("t", 0)]] == list(range(100, 150))


async def test_nothing_comes_in_time() -> None:
    client = idle_client()
    assert await fetcher.wait_ready(client, "t", ACTIVE, 40, 0.01) == {}
    await no_waiter(client)


@pytest.mark.parametrize("topic", ["t", "elsewhere", "foreign"])
async def test_what_is_not_ours_to_read_is_left_to_aiokafka(topic: str) -> None:
    error = aiokafka_fetcher.FetchError(error=KafkaError("refused"), backoff=0.1)
    assert await fetcher.wait_ready(idle_client(**{topic: error}), "t", ACTIVE, 40, 30.0) is None  # there before
    client = idle_client()
    poll = asyncio.ensure_future(fetcher.wait_ready(client, "t", ACTIVE, 40, 30.0))
    await asyncio.sleep(0)
    await come(client, topic, error)
    assert await poll is None
    assert client._fetcher._records == {TP(topic, 0): error}


async def test_a_poll_that_is_cancelled_or_refused_leaves_no_waiter() -> None:
    client = idle_client()
    poll = asyncio.ensure_future(fetcher.wait_ready(client, "t", ACTIVE, 40, 30.0))
    await asyncio.sleep(0)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    await no_waiter(client)
    poll = asyncio.ensure_future(fetcher.wait_ready(client, "t", ACTIVE, 40, 30.0))
    await asyncio.sleep(0)
    for waiter in list(client._fetcher._fetch_waiters):
        waiter.set_exception(KafkaError("not allowed"))
    with pytest.raises(KafkaError, match="not allowed"):
        await poll


async def test_a_rebalance_is_left_to_aiokafka() -> None:
    client = idle_client()
    client._fetcher._subscriptions.reassignment_in_progress = True
    assert await fetcher.wait_ready(client, "t", ACTIVE, 40, 30.0) is None
