"""What a poll finds: in, aiokafka's consumer; out, whole runs of C records where they are fetched, no wrapper for each.

The only file that reaches into the fetcher and the positions of aiokafka 0.14, which is pinned;
tests/contract/stream/test_aiokafka_internals.py watches the parts that this file leans on. A partition (`tp`) is
aiokafka's TopicPartition or Faust's TP, which are equal.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from inspect import GEN_CREATED, getgeneratorstate
from itertools import chain, islice
from typing import Any
from weakref import ref

from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, FetchResult
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import TopicPartition

from app.kafka.fetch.paced_fetch import FETCH_SECONDS, PacedFetch

# How long Kafka may hold back its answer to a fetch that finds nothing new. Kafka answers one request of a connection
# at a time: a rebalance, which asks for offsets there, waits so long for each answer. Faust has 1.5 s.
FETCH_WAIT_MS = 200
REBALANCE_SECONDS = 0.05  # between two looks whether it is over
STEP = 20  # records between two looks at how many bytes there are


def set_up(client: Any) -> None:
    """Say how a consumer fetches, before it starts."""
    client._fetch_max_wait_ms = FETCH_WAIT_MS
    client._isolation_level = "read_committed"  # what a transaction has taken back is no data


def take_ready(client: Any, topic: str, active: Any, most: int, most_bytes: int | None = None) -> dict[Any, list[Any]]:
    """Take up to `most` records of `topic` that are fetched already, as C records: {partition: records}.

    Once their values have `most_bytes`, no more than STEP are added: a response is compressed, and its records may be
    hundreds of times as large.

    aiokafka's fetched_records gives the same, a record at a time and each wrapped in a ConsumerRecord, for 1 us and 300
    bytes more.
    """
    taken: dict[Any, list[Any]] = {}
    fetcher = client._fetcher
    if client._closed or fetcher._subscriptions.reassignment_in_progress:
        return taken
    with fetcher._subscriptions.fetch_context():
        for tp, result in list(fetcher._records.items()):
            if most <= 0:
                break
            if tp.topic != topic or tp not in active or type(result) is not FetchResult or not result.has_more():
                continue
            decoded = _decoded(result)
            if decoded is None:
                continue
            records: list[Any] = []
            if result.check_assignment(tp):  # else a seek or rebalance has overtaken the response
                records = decoded.take(most, most_bytes)
                result._update_position()
            if not records or decoded.exhausted:
                result._partition_records = None
                del fetcher._records[tp]
                fetcher._notify(fetcher._wait_consume_future)
            if records:
                taken[tp] = records
                most -= len(records)
                if most_bytes is not None and (most_bytes := most_bytes - value_bytes(records)) <= 0:
                    break
    return taken


def value_bytes(records: Sequence[Any]) -> int:
    """The bytes of the values of records."""
    return sum([len(record.value) for record in records if record.value is not None])


async def wait_ready(client: Any, topic: str, active: Any, most: int, seconds: float) -> dict[Any, list[Any]] | None:
    """Up to `most` records of the `active` partitions of `topic` that come within `seconds`; {} when none do.

    None when aiokafka has to do something: with an error, records of others, a rebalance. Raises KafkaError.
    """
    fetcher = client._fetcher
    if client._closed or fetcher._closed or fetcher._subscriptions.reassignment_in_progress:
        return None
    if any(tp in active or not fetcher._subscriptions.is_assigned(tp) for tp in fetcher._records):
        return None  # take_ready has left it
    with fetcher._subscriptions.fetch_context():  # who waits counts as polling
        if not await _comes(fetcher, seconds):
            return {}
    return take_ready(client, topic, active, most) or None


async def _comes(fetcher: Any, seconds: float) -> bool:
    """Wait for what is fetched next; whether anything is, within `seconds`. Raises KafkaError."""
    waiting = fetcher._create_fetch_waiter()
    try:
        await asyncio.wait({waiting}, timeout=seconds)
        if waiting.done():
            waiting.result()
        return bool(waiting.done())
    finally:
        waiting.cancel()


async def poll(client: Any, topic: str, most: int, most_bytes: int, seconds: float) -> Mapping[Any, list[Any]]:
    """Up to `most` records of `topic`, or about `most_bytes`, of the partitions that are ours: records fetched already,
    or else records that come within `seconds`; {} when none do, and while the group rebalances.

    Raises KafkaError for what Kafka refuses.
    """
    ready = take_ready(client, topic, client.assignment(), most, most_bytes)
    if ready:
        return ready
    if client._subscription.reassignment_in_progress:  # getmany would wait for its end, however long it takes
        client._coordinator.check_errors()
        await asyncio.sleep(min(seconds, REBALANCE_SECONDS))
        return {}
    if seconds > 0:
        await _comes(client._fetcher, seconds)
        ready = take_ready(client, topic, client.assignment(), most, most_bytes)
    if ready or client._subscription.reassignment_in_progress:
        return ready
    found: Mapping[Any, list[Any]] = await client.getmany(timeout_ms=0, max_records=most)  # raises what is amiss
    return found


def count_as_polled(client: Any) -> None:
    """Let a consumer count as polled now, without taking records.

    aiokafka takes a consumer that was not polled for its maximum poll interval out of its group, and lets it join again
    only after a poll. `poll` takes records of members alone: that consumer would never be a member again.
    """
    with client._subscription.fetch_context():
        pass


def _decoded(result: Any) -> "BulkDecoder | None":
    """Our reader of a fetch result, put in the place of aiokafka's; None where aiokafka's has begun to read."""
    records = result._partition_records
    if type(records._records_iterator) is not BulkDecoder:
        if getgeneratorstate(records._records_iterator) != GEN_CREATED:
            return None
        records._records_iterator = BulkDecoder(records)
    decoded: BulkDecoder = records._records_iterator
    return decoded


class BulkDecoder:
    """PartitionRecords._unpack_records that can also give many records at once.

    As an iterator the decoder serves aiokafka's own path, so the two may take turns. The source holds the decoder, so
    the decoder must not hold the source: both would keep 4 MiB of fetched bytes until the garbage collector looks at
    the oldest objects.
    """

    def __init__(self, source: Any) -> None:
        self._source_of: Any = ref(source)
        self._current: Iterator[Any] = iter(())
        self._after: int | None = None  # where the log goes on after the current Kafka batch
        self.exhausted = False

    def take(self, most: int, most_bytes: int | None = None) -> list[Any]:
        """Up to `most` records; fewer, or none, only at the end, and once their values have `most_bytes`."""
        source = self._source_of()
        found: list[Any] = []
        left, step = most_bytes or 0, most if most_bytes is None else STEP
        while len(found) < most:
            try:
                part = list(islice(self._current, min(step, most - len(found))))
            except UnicodeDecodeError:  # from the batch's first record on; what was taken of it is left out below
                self._current = source._records.lenient()
                continue
            if part:
                if part[0].offset < source.next_fetch_offset:
                    part = [record for record in part if record.offset >= source.next_fetch_offset]
                found += part
                source.next_fetch_offset = found[-1].offset + 1 if found else source.next_fetch_offset
                if most_bytes is not None and (left := left - value_bytes(part)) <= 0:
                    break
            elif not self._next_batch(source):
                self.exhausted = True
                break
        return found

    def __iter__(self) -> "BulkDecoder":
        return self

    def __next__(self) -> Any:
        for record in self.take(1):
            return record
        raise StopIteration

    def _next_batch(self, source: Any) -> bool:
        if self._after is not None:
            source.next_fetch_offset = self._after
        if not source._records.has_next():
            return False
        batch = source._records.next_batch()
        if source._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {source._tp}")
        self._after = batch.next_offset
        self._current = chain(batch) if _holds_data(source, batch) else iter(())
        return True


def _holds_data(source: Any, batch: Any) -> bool:
    """Whether records of the batch may be read: it is no marker, and of no transaction that was aborted."""
    if source._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        source._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and source._contains_abort_marker(batch):
            source._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in source._aborted_producers:
            return False
    return not batch.is_control_batch


def fetched_bytes(client: Any) -> int:
    """Bytes of responses that still hold records not taken, of all partitions, compressed as on the wire.

    A partition has one response at most, of IOT_KAFKA_MAX_FETCH_BYTES or one larger record. Called from the loop while
    the client's thread works.
    """
    if client is None or client._fetcher is None:
        return 0
    total = 0
    for result in list(client._fetcher._records.values()):  # list() of a dict's values is one step under the GIL
        records = result._partition_records if type(result) is FetchResult else None
        if records is not None:
            total += records._records.size_in_bytes()
    return total


def partition_state(client: Any, tp: Any) -> Any:
    """What the client knows of a partition: `position`, `highwater`, `timestamp` (ms); None when the partition is not
    ours.

    The client's own methods assert that the partition is ours, and a rebalance may take it away in between.
    """
    subscription = client._subscription.subscription
    assignment = subscription and subscription.assignment
    return assignment and assignment.state_value(TopicPartition(tp.topic, tp.partition))


def pace_fetches(client: Any, seconds: float = FETCH_SECONDS) -> None:
    """Let a started client's requests to the same broker follow one another after `seconds` at the earliest."""
    client._fetcher._proc_fetch_request = PacedFetch(client._fetcher._proc_fetch_request, seconds)


async def log_ends(client: Any, tps: Collection[TopicPartition]) -> Mapping[Any, int]:
    """Where the logs end, with the records of open transactions, which the client may not read yet.

    A commit may lie behind the last stable offset, where end_offsets() ends, and not behind this end.

    Raises KafkaError.
    """
    uncommitted = copy(client._fetcher)
    uncommitted._isolation_level = READ_UNCOMMITTED
    ends: Mapping[Any, int] = await uncommitted.end_offsets(tps, client._request_timeout_ms)
    return ends
