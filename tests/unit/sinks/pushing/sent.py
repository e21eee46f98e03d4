"""Records of sinks for tests, made of only the values that matter to a test."""

from typing import Any

from app.core.model.records import Kind
from app.sinks.record import SinkRecord


def record(
    offset: int,
    key: str = "u/d",
    partition: int = 0,
    payload: bytes = b"{}",
    reading: Any = None,
    kind: Kind = Kind.TELEMETRY,
) -> SinkRecord:
    user, _, device = key.removeprefix("iot/").partition("/")
    return SinkRecord("iot-stream", partition, offset, 0, kind, user, device, key, reading, payload, [], None)
