"""Dead letters for tests, as a worker or another producer writes them."""

import json
from base64 import b64encode
from typing import Any

from msgspec import Struct

from app.core.deadletters.envelope import Headers, to_record
from app.core.model.records import Reason, Rejected, Stage
from app.deadletters.letter import Letter, letter_of
from tests.unit.records import NOW_MS, Message

AT = "2026-11-21T03:00:00+00:00"


class Held(Struct):
    """A record of the dead-letter topic."""

    value: bytes | None
    headers: Headers = ()
    key: bytes | None = None
    partition: int = 3
    offset: int = 17
    timestamp: int = NOW_MS
    topic: str = "dlq"


def held(
    payload: bytes | None = b"{", user: str = "u1", device: str = "d1", reason: Reason = Reason.BAD_JSON,
    more: Headers = (), **place: Any,
) -> Held:  # fmt: skip
    """As a worker writes it."""
    topic = f"users/{user}/devices/{device}/telemetry".encode()
    original = Message(payload, [("mqtt_topic", topic), ("kind", b"telemetry"), *more], f"{user}/{device}".encode())
    key, value, headers = to_record(Rejected(original, reason, Stage.DECODE, "it is broken"), "in", 5, AT)
    return Held(value, headers, key, **place)


def plain(payload: bytes = b"{}", **fields: Any) -> Held:
    """As a producer of the four published fields writes it."""
    envelope = {
        "original_topic": "users/u1/devices/d1/telemetry", "error": "boom", "timestamp": AT,
        "payload_base64": b64encode(payload).decode(), **fields,
    }  # fmt: skip
    return Held(json.dumps(envelope).encode())


def letter(record: Held | None = None) -> Letter:
    """A record's letter."""
    found = letter_of(record or held())
    assert found is not None
    return found
