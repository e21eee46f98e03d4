"""A sample of records for a sink: the newest records of the input topic, or a synthetic record for an empty topic."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from app.core.model.arrival import INGEST
from app.core.model.headers import KIND, TOPIC
from app.errors import PermanentError, TransientError
from app.kafka.access import access
from app.kafka.reading.record_log import record_log
from app.settings import Settings


class SampleRecord(NamedTuple):
    """A record as from Kafka (app.core.model.records.Record)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class SinkSample(NamedTuple):
    """Records by partition, and a text on their source."""

    records: dict[int, list[Any]]
    source: str


async def sample(settings: Settings, most: int) -> SinkSample:
    """About `most` records, the newest of each partition; a synthetic record without any, or without Kafka."""
    try:
        found = await _newest(settings, most)
    except (TransientError, PermanentError) as error:
        return SinkSample({0: [_made_up()]}, f"made up ({error})")
    if not found:
        return SinkSample({0: [_made_up()]}, f"made up ({settings.kafka_topic} is empty)")
    return SinkSample(found, f"the newest of {settings.kafka_topic}")


async def _newest(settings: Settings, most: int) -> dict[int, list[Any]]:
    async with record_log(access(settings), settings.kafka_topic) as log:
        begins, ends = await log.starts(), await log.ends()
        filled = [tp for tp in log.tps if ends[tp] > begins[tp]][:most]
        each = most // len(filled) if filled else 0
        wanted = {tp: max(begins[tp], ends[tp] - each) for tp in filled}
        found: dict[int, list[Any]] = {}
        async for records in log.follow(wanted, {tp: ends[tp] for tp in filled}):
            for record in records:
                found.setdefault(record.partition, []).append(record)
        return found


def _made_up() -> SampleRecord:
    now = time.time()
    payload = {"sequence_id": 1, "timestamp": int(now * 1000), "temperature": 21.5, "battery": 87, "rpm": 900}
    headers = [
        (TOPIC, b"users/alice/devices/d1/telemetry"),
        (KIND, b"telemetry"),
        (INGEST, b"%d" % int(now * 1000)),
    ]
    return SampleRecord(0, int(now * 1000), b"alice/d1", msgspec.json.encode(payload), headers)
