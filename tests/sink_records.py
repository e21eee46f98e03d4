"""Records for sinks, made by the decoder of every sink: payloads in, records out."""

import json
import time
from collections.abc import Sequence
from typing import Any

from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.decode import SinkDecoder
from app.sinks.record import SinkRecord
from tests.unit.records import Message


def message(offset: int, payload: Any = None, *, user: str = "u1", device: str = "d1", **more: Any) -> Message:
    """A record of Kafka with a reading of this device, arriving now; `more` are fields of its payload."""
    now_ms = int(time.time() * 1000)
    if payload is None:
        payload = {
            "sequence_id": offset,
            "timestamp": now_ms + offset % 100_000,
            "temperature": 20.5,
            "battery": 80,
            **more,
        }
    value = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = [
        ("mqtt_topic", f"users/{user}/devices/{device}/telemetry".encode()),
        ("kind", b"telemetry"),
        ("ingest_ms", str(now_ms).encode()),
    ]
    return Message(value, headers, f"{user}/{device}".encode(), now_ms, offset)


def sink_records(
    offsets: Sequence[int], partition: int = 0, *, settings: Settings | None = None, **more: Any
) -> list[SinkRecord]:
    """The records that a sink is given, one for each offset, of ten devices `d<n>` in turn."""
    decoder = SinkDecoder(settings or Settings(_env_file=None))
    more = {"user": f"u{partition}", **more}
    found = [message(offset, **{"device": f"d{offset % 10}", **more}) for offset in offsets]
    made = decoder.decode(partition, found)
    assert len(made) == len(offsets), decoder.skipped
    return made


def status_record(offset: int, word: bytes = b"online", *, node: str = "n1") -> Message:
    """A status record of a node."""
    topic = f"iot/{node}/status".encode()
    return Message(word, [("mqtt_topic", topic), ("kind", Kind.STATUS.encode())], node.encode(), 0, offset)
