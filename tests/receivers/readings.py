"""Records with readings, as given to a sink."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from app.core.model.records import Kind
from app.sinks.record import SinkRecord
from tests import DEFAULT

START = datetime(2026, 11, 30, 10, tzinfo=UTC)


def pushed(
    offset: int,
    device: str = "d",
    *,
    user: str = "u",
    node: bool = False,
    partition: int = 0,
    temperature: float | None = 21.5,
    battery: int | None = 80,
    **extra: Any,
) -> SinkRecord:
    """The reading number `offset` of a device, a second after the reading before; `extra` may hold msgspec.Raw."""
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in extra.items()}
    text = msgspec.json.encode(raw).decode()
    time = START + timedelta(seconds=offset)
    reading = DEFAULT.reading(time, user, device, offset, raw, text, temperature, battery)
    key = f"iot/{user}/{device}" if node else f"{user}/{device}"
    place = "iot-stream", partition, offset
    return SinkRecord(*place, 1_795_230_000_000, Kind.TELEMETRY, user, device, key, reading, text.encode(), [], None)
