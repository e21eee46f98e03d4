"""Timestamps of single records: in, a place in each of some partitions; out, when the record there was written."""

import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

from app.kafka.access import Access, ask_until_answered, start
from app.kafka.close_clients import close_consumer

LOOK_SECONDS = 10.0  # a record that has not come by then is taken for a record that Kafka does not hold
FETCH_BYTES = 1 << 16
# Of a consumer that reads single records.
LOOK_OPTIONS: Mapping[str, Any] = {
    "auto_offset_reset": "earliest", "max_partition_fetch_bytes": FETCH_BYTES, "fetch_max_wait_ms": 100,
}  # fmt: skip


async def record_times(kafka: Access, places: Mapping[TP, int]) -> Mapping[TP, int]:
    """The timestamp of the record at each offset, milliseconds since 1970; records that Kafka does not hold are left
    out.

    Waits out an outage of Kafka.
    """
    return await ask_until_answered("times of records", lambda: _ask(kafka, places))


async def _ask(kafka: Access, places: Mapping[TP, int]) -> Mapping[TP, int]:
    consumer = AIOKafkaConsumer(**kafka.options, **LOOK_OPTIONS, enable_auto_commit=False)
    try:
        await start(consumer, kafka)
        return await times_of(consumer, places)
    finally:
        await close_consumer(consumer)


async def times_of(consumer: AIOKafkaConsumer, places: Mapping[TP, int]) -> Mapping[TP, int]:
    """As `record_times`, once, with a consumer that has started and belongs to no group. Raises KafkaError."""
    wanted = {TopicPartition(tp.topic, tp.partition): offset for tp, offset in places.items()}
    consumer.assign(list(wanted))
    for tp, offset in wanted.items():
        consumer.seek(tp, offset)
    found: dict[TP, int] = {}
    left, deadline = set(wanted), time.monotonic() + LOOK_SECONDS
    while left and time.monotonic() < deadline:
        for tp, records in (await consumer.getmany(*left, timeout_ms=500, max_records=len(left))).items():
            left.discard(tp)
            if records[0].offset == wanted[tp]:
                found[TP(tp.topic, tp.partition)] = records[0].timestamp
    return found
