"""Runs of records as Faust messages: in, fetched records of a partition; out, batches within the limits."""

from collections.abc import Iterator
from dataclasses import dataclass

import faust
from aiokafka import ConsumerRecord
from faust.events import Event
from faust.types import TP, ConsumerMessage

# What a ConsumerRecord with key, headers and their tuples takes beside its payload (measured with sys.getsizeof).
RECORD_OVERHEAD = 600


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How records of `topic` are cut into batches and how many of them may wait.

    A partition is not fetched while `partition_bytes` of its batches, or `buffer_bytes` in all, are un-acked (estimated
    memory; 5,000 records of 135 bytes count as 3.7 MB, so two such batches of a partition overlap).
    """

    topic: str
    max_rows: int = 5000
    max_bytes: int = 1 << 20
    buffer_bytes: int = 64 << 20
    partition_bytes: int = 4 << 20


class BatchMessage(ConsumerMessage):  # type: ignore[misc]
    """One run of records of one partition. `value` is the list of aiokafka ConsumerRecord."""

    first_offset: int
    next_offset: int
    weight: int
    epoch: int
    in_work: bool = False  # taken by the pipeline: holding it (an outage) is not being stuck


class BatchTopic(faust.Topic):  # type: ignore[misc]
    """A topic whose events carry batches: nothing is decoded before the agent sees it."""

    def _compile_decode(self) -> None:
        app = self.app

        async def decode(message: BatchMessage, *, propagate: bool = False) -> Event:
            return Event(app, None, message.value, None, message)

        self.decode = decode


def cut(
    tp: TP, records: list[ConsumerRecord], limits: BatchLimits, epoch: int, generation: int
) -> Iterator[BatchMessage]:
    """Cut a run into batches of at most `max_rows` records and `max_bytes` of payload; a larger record goes alone."""
    start = 0
    while start < len(records):
        part = records[start : start + limits.max_rows] if start or len(records) > limits.max_rows else records
        sizes = [len(record.value or b"") for record in part]
        size = sum(sizes)
        if size > limits.max_bytes:
            part, size = _within(part, sizes, limits.max_bytes)
        start += len(part)
        yield _message(tp, part, size, epoch, generation)


def _message(tp: TP, records: list[ConsumerRecord], size: int, epoch: int, generation: int) -> BatchMessage:
    tail = records[-1]
    message = BatchMessage(
        tp.topic, tp.partition, tail.offset, tail.timestamp / 1000.0, tail.timestamp_type, [], b"", records, None,
        tp=tp, generation_id=generation,
    )  # fmt: skip
    message.first_offset = records[0].offset
    message.next_offset = tail.offset + 1
    message.weight = size + RECORD_OVERHEAD * len(records)
    message.epoch = epoch
    return message


def _within(records: list[ConsumerRecord], sizes: list[int], most: int) -> tuple[list[ConsumerRecord], int]:
    """The first records that stay within `most` bytes, at least one, and their size."""
    total, count = sizes[0], 1
    while count < len(sizes) and total + sizes[count] <= most:
        total += sizes[count]
        count += 1
    return records[:count], total
