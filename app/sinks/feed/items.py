"""A record in, its JSON object out, in the format of POST /v1/events and of a line of TCP, with all ids.

A reading has its ids, `sequence_id`, `timestamp` in UTC, its columns under the JSON fields that they are read from, and
every other field exactly as sent, to the digit. A column without a value is left out. Any other record has its ids, its
`kind`, `ingest_ms` and its payload: as JSON or text in `payload`, else in `payload_base64`.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, defstruct

from app.core.schema.codegen import row_maker
from app.core.schema.schema import Schema
from app.sinks.pushing.way import is_of_node
from app.sinks.record import SinkRecord

_encoder = msgspec.json.Encoder(decimal_format="number")
_raw = msgspec.json.Decoder(Raw).decode
_SAID = ("sequence_id", "timestamp")  # in every object, beside its ids
_USER, _NODE = ("user_id", "device_id"), ("node_id", "sensor_id")

ItemMaker = Callable[[SinkRecord], bytes]


class _Message(Struct, omit_defaults=True):
    """The object of a record without a reading."""

    kind: str
    ingest_ms: int
    user_id: str | UnsetType = UNSET
    device_id: str | UnsetType = UNSET
    node_id: str | UnsetType = UNSET
    sensor_id: str | UnsetType = UNSET
    payload: Raw | str | UnsetType = UNSET
    payload_base64: str | UnsetType = UNSET


def item_maker(schema: Schema) -> ItemMaker:
    """The function from a record to its JSON object, for readings of `schema`. The function never raises."""
    of_user, of_node = _readings(schema, _USER), _readings(schema, _NODE)

    def item(record: SinkRecord) -> bytes:
        if record.reading is None:
            return _other(record)
        return (of_node if is_of_node(record) else of_user)(record)

    return item


def _readings(schema: Schema, ids: Sequence[str]) -> ItemMaker:
    """The function for readings whose ids have these names. A column that is read from a field with the name of an id
    is left out, as an object has each name once.
    """
    taken = {*ids, *_SAID}
    columns = [one for one in schema.columns if one.fields[0] not in taken]
    names = ["user_id", "device_id", "sequence_id", "timestamp", *(one.name for one in columns)]
    fields: list[Any] = [(names[0], str), (names[1], str), (names[2], int), (names[3], datetime)]
    fields += [(one.name, one.type.python | None, None) for one in columns]
    rename = dict(zip(names, [*ids, *_SAID, *(one.fields[0] for one in columns)], strict=True))
    head: Any = defstruct("FeedItem", fields, rename=rename, omit_defaults=True, gc=False)
    values = row_maker(["user_id", "device_id", "sequence_id", "time", *(one.name for one in columns)])
    encode = _encoder.encode

    def made(record: SinkRecord) -> bytes:
        reading = record.reading
        said, rest = encode(head(*values(reading))), reading.extra_json
        if not taken.isdisjoint(reading.extra):
            rest = encode({name: raw for name, raw in reading.extra.items() if name not in taken}).decode()
        return said if rest == "{}" else b"%b,%b" % (said[:-1], rest[1:].encode())

    return made


def _other(record: SinkRecord) -> bytes:
    """The object of a record without a reading."""
    message = _Message(record.kind.value, record.ingest_ms)
    user, device = _NODE if is_of_node(record) else _USER
    setattr(message, user, record.user_id or UNSET)
    setattr(message, device, record.device_id or UNSET)
    try:
        text = record.payload.decode()
    except UnicodeDecodeError:
        message.payload_base64 = b64encode(record.payload).decode()
    else:
        message.payload = _as_json(text)
    return _encoder.encode(message)


def _as_json(text: str) -> Raw | str:
    try:
        return _raw(text)
    except (msgspec.MsgspecError, RecursionError):
        return text
