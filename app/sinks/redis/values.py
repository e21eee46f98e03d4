"""A record with a reading -> its value in Redis, as JSON; and which of two such values is kept.

    {"time":"2026-11-30T10:00:00.123456Z","ingest_ms":1796032800130,"sequence_id":7,"user_id":"alice",
     "device_id":"truck-1","temperature":21.5,"battery":80,"extra_data":{"humidity":41.2}}

The columns are those of raw_telemetry. `time`, `ingest_ms` and `sequence_id` come first: LAST_VALUES parses them.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, defstruct
from msgspec.json import Encoder

from app.core.schema.schema import Schema
from app.sinks.record import SinkRecord


class LastValue(Struct, gc=False):
    """The first fields of every value; the columns of a schema and `extra_data` follow."""

    time: datetime
    ingest_ms: int
    sequence_id: int
    user_id: str
    device_id: str


def value_maker(schema: Schema) -> Callable[[SinkRecord], bytes]:
    """A function from a record, whose `reading` is not None, to its JSON. Decimals become numbers with all digits."""
    names = [column.name for column in schema.columns]
    fields: list[Any] = [*((name, Any) for name in names), ("extra_data", Any)]
    made: Any = defstruct("Value", fields, bases=(LastValue,), gc=False)
    values = "".join(f"it.{name}, " for name in names)
    space: dict[str, Any] = {"made": made, "encode": Encoder(decimal_format="number").encode}
    code = (
        "def value(record):\n it = record.reading\n return encode(made(it.time, record.ingest_ms, it.sequence_id,"
        f" record.user_id, record.device_id, {values}it.extra))"
    )
    exec(code, space)  # noqa: S102  # names of columns are identifiers (struct_columns.py)
    found: Callable[[SinkRecord], bytes] = space["value"]
    return found


def newest(records: Sequence[SinkRecord], setback_ms: float) -> dict[str, int]:
    """The record with the last value of each device: {key: index}."""
    found: dict[str, int] = {}
    for index, record in enumerate(records):
        known = found.get(record.key)
        if known is None or replaces(record, records[known], setback_ms):
            found[record.key] = index
    return found


def replaces(record: SinkRecord, known: SinkRecord, setback_ms: float) -> bool:
    """Whether a record replaces a record of the same device: its reading is not older, or the device has sent only
    older readings for `setback_ms` (0: never), as after its clock was set back. LAST_VALUES applies the same rule.
    """
    new, old = record.reading, known.reading
    if new.time > old.time:
        return True
    if new.time == old.time and new.sequence_id >= old.sequence_id:
        return True
    return 0 < setback_ms <= record.ingest_ms - known.ingest_ms
