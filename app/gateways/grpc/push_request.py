"""A PushMetricsRequest or PushEventsRequest -> the bytes of its batch, and whether it flushes.

Its two fields are read by hand: the batch is then counted and parsed once (protobuf_records.py), and not before.
"""

from typing import NamedTuple

_BATCH, _FORCE_FLUSH = 0x0A, 0x10  # field 1 as bytes, field 2 as a number: both requests have the same
_VARINT_BYTES = 10


class PushRequest(NamedTuple):
    """What was asked: the bytes of the batch, and whether it flushes."""

    batch: bytes
    force_flush: bool


def push_request(data: bytes) -> PushRequest | str:
    """The request in these bytes, or a sentence that says what is wrong with it. Never raises."""
    batches: list[bytes] = []
    force_flush, at = False, 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if at < 0:
            return "the message is cut short"
        if tag == _FORCE_FLUSH:
            force_flush = bool(value)
        elif tag == _BATCH and value <= len(data) - at:
            batches.append(data[at : at + value])
            at += value
        elif tag == _BATCH:
            return "the message is cut short"
        else:
            return f"field {tag >> 3} of the request is not known here: upgrade the gateway before its senders"
    # Said twice, one field's messages are merged, which is what their bytes after one another mean (protobuf's rule).
    return PushRequest(batches[0] if len(batches) == 1 else b"".join(batches), force_flush)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next thing begins; -1: there is no whole number."""
    value = shift = 0
    if at < 0:
        return 0, -1
    for byte in data[at : at + _VARINT_BYTES]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, -1
