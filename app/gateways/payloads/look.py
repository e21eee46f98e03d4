"""A check of a JSON payload: its ids, and whether the worker will accept the payload; if not, the worker's message.

Nearly every payload takes one typed decode. A payload that the decode refuses or suspects goes to the worker's own
strict reader, which decides; only the worker checks the columns of a schema and the age of a reading.
"""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from app.core.decode.fields import read_known
from app.core.decode.strict_json import jsonb_fault, read_fields
from app.core.model.fault import Fault, printable
from app.core.model.records import Kind, Reason, Stage
from app.core.routing.address import Address

MAX_DEPTH = 32  # IOT_PAYLOAD_MAX_DEPTH
_FLAT = 2 * MAX_DEPTH  # shorter JSON has no more levels
Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_BACKSLASH, _BRACKET, _BRACE = b"\\[{"
_NAMES = ("user_id", "device_id", "node_id", "sensor_id")

Time = Annotated[datetime, Meta(tz=True)] | Annotated[float, Meta(ge=-1e11, le=2.5e14)] | None  # else: strict reader


class Seen(Struct, gc=False):
    """The fields that the check reads."""

    user_id: str | None = None
    device_id: str | None = None
    node_id: str | None = None
    sensor_id: str | None = None
    sequence_id: Int64 | None = None
    timestamp: Time = None
    time: Time = None
    traceparent: Raw | None = None


decode = msgspec.json.Decoder(Seen).decode  # raises the errors in REFUSED
REFUSED = (ValueError, RecursionError, OverflowError)  # ValueError: also msgspec's, and of encodings
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


def look(payload: bytes) -> Seen | None:
    """The fields of a JSON object; None where the strict reader has to decide. Never raises."""
    try:
        return decode(payload)
    except REFUSED:
        return None


def sound(seen: Seen, payload: bytes, owner: str, device: str, lenient: bool) -> bool:
    """Whether a payload of this device is certainly acceptable; `lenient`: time and sequence_id may be missing."""
    if not lenient and (seen.sequence_id is None or (seen.timestamp is None and seen.time is None)):
        return False
    user, own = seen.user_id, seen.device_id
    return (user is None or user == owner) and (own is None or own == device) and plain(payload)


def plain(payload: bytes) -> bool:
    """Whether a JSON object has no content that the database may refuse: an escape, UTF-8, many levels."""
    if not payload.isascii() or _BACKSLASH in payload:  # an int, not bytes: 40 ns instead of 250 ns
        return False
    if not (_BRACKET in payload or _BRACE in payload[1:]):
        return True
    return len(payload) <= _FLAT or payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH


def named(payload: bytes) -> Seen | Fault:
    """The ids of a payload that `look` does not accept, or the fault of a payload without ids; as in the worker, an
    integer is an id as well. Never raises.
    """
    fields = read_fields(payload, MAX_DEPTH)
    if isinstance(fields, Fault):
        return fields
    seen = Seen()
    for name in _NAMES:
        raw = bytes(fields.get(name, b"null"))
        if raw[:1] == b'"':
            setattr(seen, name, _text(raw))
        elif raw.removeprefix(b"-").isdigit():
            setattr(seen, name, raw.decode())
        elif raw != b"null":
            return Fault(Reason.WRONG_TYPE, Stage.VALIDATE, f"{name} is {printable(raw)}; send a string")
    return seen


def fault(payload: bytes, owner: str, device: str, topic: str, lenient: bool) -> Fault | None:
    """The fault that the worker will find in a payload of this device on `topic`; `lenient`: time and sequence_id may
    be missing. None: no fault, except those that only the worker can find. Never raises.
    """
    if not payload:
        return Fault(Reason.EMPTY_PAYLOAD, Stage.DECODE, "payload is empty; send a JSON object")
    fields = read_fields(payload, MAX_DEPTH)
    if isinstance(fields, Fault):
        return fields
    known = read_known(fields, Address(Kind.TELEMETRY, owner, device, topic, lenient), ())
    if isinstance(known, Fault):
        return known
    found = jsonb_fault(_encode(fields).decode(), MAX_DEPTH)
    # A number that jsonb cannot represent may belong to a column that can.
    return found if found and found.reason is not Reason.OUT_OF_RANGE else None
