"""A record with a reading -> its line, without a line end: `telemetry,user_id=u,device_id=d temperature=21.5 1764...`.

Columns keep the types of the schema: a whole number is an integer, a decimal a float. The time is exact, in
microseconds. A reading without any value has its sequence_id as its only field, so that the reading is not lost.
"""

from collections.abc import Callable
from typing import Any

from app.core.model.namespaces import IOT
from app.core.model.times import EPOCH, MICROSECOND
from app.core.schema.column_types import Column
from app.core.schema.schema import Schema
from app.settings.sinks.influx import InfluxSettings
from app.sinks.influx.escape import measurement, name, quoted
from app.sinks.influx.extra import ExtraFields
from app.sinks.record import SinkRecord

HEADS_MAX, HEAD_LONGEST = 32_768, 512  # cached heads; characters of a cached head, as ids may have 2 kB
USER = "{user}"  # in the setting of the measurement

# By type of a column: the test of its value `v`, and the text of the value, in the generated code of all columns.
_VALUES = {
    float: ("v - v == 0.0", "{v!r}"),  # neither infinite nor NaN
    int: ("True", "{v}i"),
    bool: ("True", "{v}"),
    str: ("True", "{quoted(v)}"),
}
_OTHERS = ("v.is_finite()", "{float(v)!r}")  # Decimal


class LineMaker:
    """Makes lines; caches the head of each device's lines, and escaped names."""

    def __init__(self, schema: Schema, settings: InfluxSettings) -> None:
        self._measurement, self._sequence = settings.influx_measurement, settings.influx_sequence_id
        names = frozenset((*(column.name for column in schema.columns), "sequence_id"))
        self._extra = ExtraFields(names, integers=settings.influx_extra_numbers == "as_sent").line_part
        self._columns = _columns_maker(schema.columns)
        self._heads: dict[str, str] = {}

    def line(self, record: SinkRecord) -> str:
        """The line of a record whose `reading` is not None. Never raises."""
        reading = record.reading
        head = self._heads.get(record.key) or self._head(record)
        fields = self._columns(reading)
        if reading.extra:
            fields += self._extra(reading.extra)
        sequence = self._sequence
        if sequence == "tag":
            head = f"{head[:-1]},sequence_id={reading.sequence_id} "
        if not fields or sequence == "field":
            fields += f"sequence_id={reading.sequence_id}i,"
        return f"{head}{fields[:-1]} {(reading.time - EPOCH) // MICROSECOND}"

    def _head(self, record: SinkRecord) -> str:
        """Measurement and tags with the blank after them. The tag `way` marks a device of iot/*, not of users/*."""
        way = IOT if record.key.startswith(f"{IOT}/{record.user_id}/") else ""
        tags = (("user_id", record.user_id), ("device_id", record.device_id), ("way", way))
        said = "".join(f",{tag}={name(value)}" for tag, value in tags if value)  # servers have no empty tags
        head = f"{measurement(self._measurement.replace(USER, record.user_id))}{said} "
        if len(head) <= HEAD_LONGEST:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            self._heads[record.key] = head
        return head


def _columns_maker(columns: tuple[Column, ...]) -> Callable[[Any], str]:
    """A function from a reading to `column=value,` for each column with a value; without a loop, for speed."""
    code = ["def made(it):", " text = ''"]
    for column in columns:
        test, value = _VALUES.get(column.type.python, _OTHERS)
        code.append(f" v = it.{column.name}")
        code.append(f" if v is not None and {test}: text += f'{column.name}={value},'")
    space: dict[str, Any] = {"quoted": quoted}
    exec("\n".join([*code, " return text"]), space)  # noqa: S102  # names of columns are identifiers (struct_columns.py)
    made: Callable[[Any], str] = space["made"]
    return made
