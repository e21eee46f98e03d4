"""Bytes -> a batch of protobuf and which of its items nobody here can read whole, or MalformedBatch; nothing else is
raised, whatever the bytes.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from app.errors import WireError
from app.gateways.telemetry_record import Rejection
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import MetricBatch

MALFORMED, TOO_MANY_ITEMS, UNKNOWN_FIELD = "malformed", "too_many_items", "unknown_field"

# Parsed, an item takes some 50 bytes, however few it came in. Below so many bytes for each item that is allowed, not
# even items of two bytes are worth counting before they are parsed.
_SHORT = 8
_ITEM = 0x12  # the tag of an item in either batch: field 2, with a length
_SKIPPED = {1: 8, 5: 4}  # wire type -> bytes: fixed64, fixed32

B = TypeVar("B", EventBatch, MetricBatch)


class MalformedBatch(WireError):
    """The bytes are no batch that is taken, and none of its items was: str() says why, for whoever sent it.

    `reason` is MALFORMED, TOO_MANY_ITEMS or UNKNOWN_FIELD.
    """

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason = reason


def parse(kind: type[B], data: bytes, max_items: int) -> tuple[B, Mapping[int, Rejection]]:
    """The batch in `data`, and the refusal of each item, by its number, with a field that nobody here knows.

    Raises MalformedBatch: for bytes that are no batch, one of more than `max_items`, an unknown field of the batch.
    """
    if len(data) > max_items * _SHORT and item_count(data, max_items) > max_items:
        raise _too_many(max_items)
    batch = _parsed(kind, data)
    if len(_items(batch)) > max_items:
        raise _too_many(max_items)
    # What is unknown is dropped, and then the batch is shorter than `data`: that costs a tenth of a look at each item.
    # A sender that wrote a number in more bytes than it needs only seems to have sent something unknown.
    batch.DiscardUnknownFields()
    if batch.ByteSize() == len(data):
        return batch, {}
    batch = _parsed(kind, data)
    if (number := _unknown(batch)) is not None:
        raise MalformedBatch(UNKNOWN_FIELD, _unknown_error(number, batch))
    return batch, {
        index: Rejection(UNKNOWN_FIELD, _unknown_error(number, item))
        for index, item in enumerate(_items(batch))
        if (number := _unknown(item)) is not None
    }


def _parsed(kind: type[B], data: bytes) -> B:
    try:
        return kind.FromString(data)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        detail = f"{len(data)} bytes are no {name}: they are cut short, another message, or hold text that is not UTF-8"
        raise MalformedBatch(MALFORMED, detail) from None


def _items(batch: EventBatch | MetricBatch) -> Sequence[Message]:
    return batch.events if isinstance(batch, EventBatch) else batch.metrics


def item_count(data: bytes, most: int) -> int:
    """How many items the bytes of a batch say they hold, at least; counting ends above `most`, and at what is no
    protobuf. Never raises.
    """
    found = at = 0
    while at < len(data) and found <= most:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 2:
            size, at = _varint(data, at)
            at += size
            found += tag == _ITEM
        elif wire == 0:
            _, at = _varint(data, at)
        elif wire in _SKIPPED:
            at += _SKIPPED[wire]
        else:
            break
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends; what is cut short or longer than ten bytes ends the data."""
    number = shift = 0
    for index in range(at, min(at + 10, len(data))):
        number |= (data[index] & 0x7F) << shift
        if data[index] < 0x80:
            return number, index + 1
        shift += 7
    return 0, len(data)


def _too_many(most: int) -> MalformedBatch:
    return MalformedBatch(TOO_MANY_ITEMS, f"the batch has more than {most} items; send them in several")


def _unknown(message: Message) -> int | None:
    fields = UnknownFieldSet(message)
    return fields[0].field_number if len(fields) else None


def _unknown_error(number: int, message: Message) -> str:
    name = message.DESCRIPTOR.full_name
    return f"field {number} of {name} is none that this gateway knows: another message, or a sender that is newer"
