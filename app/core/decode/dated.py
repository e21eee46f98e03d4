"""Whether a reading bears a time of its own, or only the time of its arrival, which a redelivery changes."""

import msgspec
from msgspec import Raw, Struct

_NULL = b"null"


class _Times(Struct):
    timestamp: Raw = Raw(_NULL)
    time: Raw = Raw(_NULL)


_times = msgspec.json.Decoder(_Times).decode


def is_dated(payload: bytes) -> bool:
    """Whether a payload that was decoded has a time in it. Never raises."""
    if b'"time' not in payload and b"\\u" not in payload:
        return False
    try:
        found = _times(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return True
    return bytes(found.timestamp) != _NULL or bytes(found.time) != _NULL
