"""A record of the dead-letter topic -> the dead letter in it, whoever wrote it: this product, or a producer of the four
published fields alone.
"""

from base64 import b64decode
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from app.core.deadletters.envelope import (
    ORIGINAL_OFFSET,
    ORIGINAL_PARTITION,
    ORIGINAL_TOPIC,
    OWN_HEADERS,
    REASON,
    DeadLetter,
    Headers,
    from_record,
)

NOWHERE = -1  # partition and offset of an original whose place nobody has noted
_BINARY = (4, 8)  # bytes of a number that is no text, high byte first, as other products write it


class _Published(Struct):
    """The fields that every producer writes; the others may be anything, or missing."""

    original_topic: str
    error: str
    payload_base64: str
    timestamp: str | int | float = ""
    reason: Any = None
    stage: Any = None
    replay_count: Any = None


_decode = msgspec.json.Decoder(_Published).decode


def read_letter(value: bytes | None, headers: Headers, key: bytes | None) -> DeadLetter | None:
    """Read a record of the dead-letter topic; None where it has no envelope. Never raises.

    `key` is the record's, which stands for the original's where the envelope names none. A reason that is missing is
    empty, a place that is not noted is NOWHERE.
    """
    return from_record(value, headers) or _published(value, headers, key)


def _published(value: bytes | None, headers: Headers, key: bytes | None) -> DeadLetter | None:
    try:
        found = _decode(value or b"")
        payload = b64decode(found.payload_base64, validate=True)
    except (ValueError, RecursionError):
        return None
    known = {name: held for name, held in headers if name in OWN_HEADERS and held is not None}
    reason = found.reason if isinstance(found.reason, str) else known.get(REASON, b"").decode("utf-8", "replace")
    count = found.replay_count
    return DeadLetter(
        original_topic=found.original_topic,
        error=found.error,
        reason=reason,
        stage=found.stage if isinstance(found.stage, str) else "",
        timestamp=str(found.timestamp),
        replay_count=count if type(count) is int and count >= 0 else 0,
        source_topic=known.get(ORIGINAL_TOPIC, b"").decode("utf-8", "replace"),
        source_partition=_number(known.get(ORIGINAL_PARTITION)),
        source_offset=_number(known.get(ORIGINAL_OFFSET)),
        key=key,
        payload=payload,
        tombstone=False,
        headers=[header for header in headers if header[0] not in OWN_HEADERS],
    )


def refused_ms(letter: DeadLetter) -> int | None:
    """When the letter says that it was written, in milliseconds since 1970; None where that cannot be read."""
    try:
        at = datetime.fromisoformat(letter.timestamp)
        return int(at.timestamp() * 1000) if at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _number(text: bytes | None) -> int:
    if text is None:
        return NOWHERE
    if text.isdigit() and len(text) < 20:
        return int(text)
    return int.from_bytes(text, "big", signed=True) if len(text) in _BINARY else NOWHERE
