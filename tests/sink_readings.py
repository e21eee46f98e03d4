"""Records as the runner gives them to a sink, decoded by the product's decoder."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.arrival import arrived_ms
from app.core.model.records import Kind, Reading
from app.core.routing.address import Address, address_of
from app.core.schema.schema import Schema
from app.sinks.record import SinkRecord
from tests import DEFAULT
from tests.unit.records import Message

START = datetime(2026, 11, 21, 2, tzinfo=UTC)


def sink_record(
    offset: int = 0,
    *,
    seconds: float = 0.0,
    came: float | None = None,
    user: str = "alice",
    device: str = "truck-1",
    sequence: int | None = None,
    partition: int = 0,
    node: bool = False,
    schema: Schema = DEFAULT,
    **fields: Any,
) -> SinkRecord:
    """A record whose reading is `seconds` after START, and which arrived `came` seconds after START (None: 10 ms after
    the reading). `sequence` None: the offset. `node`: of iot/{user}/{device}.
    """
    time = START + timedelta(seconds=seconds)
    arrived = START + timedelta(seconds=seconds + 0.01 if came is None else came)
    known = {"timestamp": time.isoformat(), "sequence_id": offset if sequence is None else sequence}
    topic = f"iot/{user}/{device}/telemetry" if node else f"users/{user}/devices/{device}/telemetry"
    ms = round(arrived.timestamp() * 1000)
    headers = (("mqtt_topic", topic.encode()), ("kind", b"telemetry"), ("ingest_ms", b"%d" % ms))
    key = user if node else f"{user}/{device}"
    return as_sink_record(
        Message(json.dumps(known | fields).encode(), headers, key.encode(), ms, offset), partition, schema
    )


def as_sink_record(message: Message, partition: int = 0, schema: Schema = DEFAULT) -> SinkRecord:
    """A record of valid telemetry."""
    address = address_of(message)
    assert isinstance(address, Address), address
    at = arrived_ms(message, message.timestamp)
    reading = _decoder(schema).decode(message, address, at)
    assert isinstance(reading, Reading), reading
    ids = (reading.user_id, reading.device_id, f"{address.owner or reading.user_id}/{reading.device_id}")
    place = ("iot-stream", partition, message.offset)
    return SinkRecord(*place, at, Kind.TELEMETRY, *ids, reading, message.value or b"", message.headers, message)


@cache
def _decoder(schema: Schema) -> Decoder:
    """A decoder without limits on time."""
    return Decoder(DecodeLimits(time_future_max=1e9, time_past_max=1e9), schema)


def offsets(records: Sequence[SinkRecord]) -> list[int]:
    """The offset of each record."""
    return [record.offset for record in records]
