"""Readings as lines: the gateways' parser of lines finds the values of the reading."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from app.core.decode.influx_line import InfluxPoint, read_line
from app.core.model.times import moment
from app.core.schema.column_types import Fields
from app.core.schema.schema import schema_of
from app.settings.sinks.influx import InfluxSettings
from app.sinks.influx.lines import LineMaker
from app.sinks.record import SinkRecord
from tests import DEFAULT
from tests.sink_readings import sink_record
from tests.unit.readings import reading

FIRST = 1795226400000000  # START


class Everything(Struct):
    """A column of each kind."""

    level: float
    count: int | None = None
    on: bool | None = None
    mode: Annotated[str | None, Fields("state")] = None
    price: Decimal | None = None


def line(record: SinkRecord, **settings: Any) -> str:
    return LineMaker(DEFAULT, InfluxSettings(**settings)).line(record)


def point(record: SinkRecord, **settings: Any) -> InfluxPoint:
    """The line, parsed by the gateways' parser."""
    found = read_line(line(record, **settings))
    assert isinstance(found, InfluxPoint), found
    return found


def test_a_reading() -> None:
    record = sink_record(7, seconds=0.123456, temperature=21.5, battery=80, humidity=41.2)
    tags = "telemetry,user_id=alice,device_id=truck-1"
    assert line(record) == f"{tags} temperature=21.5,battery=80i,humidity=41.2 {FIRST + 123456}"


def test_each_type_of_a_column_is_kept() -> None:
    schema = schema_of(Everything)
    record = sink_record(level=2, count=-3, on=False, state='a "b" \\c', price="1.50", schema=schema)
    made = LineMaker(schema, InfluxSettings()).line(record)
    fields = 'level=2.0,count=-3i,on=False,mode="a \\"b\\" \\\\c",price=1.5'
    assert made == f"telemetry,user_id=alice,device_id=truck-1 {fields} {FIRST}"


def test_what_has_no_column_keeps_its_type_too() -> None:
    record = sink_record(ok=True, off=False, text="x", none=None, whole=3, part=-3.25, large=10**30)
    assert point(record).fields == {
        "ok": "true", "off": "false", "text": '"x"', "whole": "3", "part": "-3.25", "large": str(10**30),
    }  # fmt: skip
    assert "whole=3," in line(record)


def test_whole_numbers_may_stay_integers() -> None:
    made = line(sink_record(whole=3, part=3.5, large=2**63, least=-(2**63)), influx_extra_numbers="as_sent")
    assert "whole=3i,part=3.5,large=9223372036854775808,least=-9223372036854775808i " in made


def test_digits_are_those_that_were_sent() -> None:
    assert " a=0.1000,b=1E5 " in line(_with_extra(b'{"a":0.1000,"b":1E5}'))


@pytest.mark.parametrize("value", [b"1e999", b"-1e999", b"1" + b"0" * 400])
def test_what_no_double_holds_is_not_sent(value: bytes) -> None:
    assert " b=1 " in line(_with_extra(b'{"a":%s,"b":1}' % value))
    assert " b=1i " in line(_with_extra(b'{"a":%s,"b":1}' % value), influx_extra_numbers="as_sent")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_number_is_not_sent(value: float) -> None:
    """The decoder passes no such number; if a reading has one all the same, its other fields are sent."""
    record = sink_record()
    assert " battery=3i " in line(_like(record, reading(temperature=value, battery=3)))


def test_an_object_is_taken_apart_and_an_array_is_text() -> None:
    record = sink_record(engine={"oil": {"temp": 90, "ok": True}, "rpm": 900.5}, gps=[1, {"a": "b"}], last=1)
    assert point(record).fields == {
        "gps": json.dumps('[1, {"a": "b"}]'), "last": "1", "engine.rpm": "900.5", "engine.oil.temp": "90",
        "engine.oil.ok": "true",
    }  # fmt: skip


def test_a_field_that_is_called_like_a_path_wins_over_the_path() -> None:
    assert point(_with_extra(b'{"a":{"b":1},"a.b":2}')).fields == {"a.b": "2"}


def test_line_breaks_within_an_array_are_none_in_the_line() -> None:
    made = line(_with_extra(b'{"a":[1,\r\n 2]}'))
    assert "\n" not in made
    assert "\r" not in made
    assert 'a="[1,2]"' in made


def test_an_object_does_not_make_a_line_of_any_length() -> None:
    name = "n" * 250
    inner = {f"f{number}": number for number in range(5000)}
    wide: dict[str, Any] = {name: inner}
    made = line(sink_record(**wide, deep={name: {"x" * 10: 1}}, left=1))
    assert len(made) < 300_000
    assert "left=1," in made
    assert "xxxxxxxxxx" not in made, "a path beyond what is kept"


def test_names_that_the_protocol_has_for_itself() -> None:
    """InfluxDB drops a field `time`, or refuses the whole line."""
    assert point(sink_record(time="noon", x=1)).fields == {"time_": '"noon"', "x": "1"}


def test_a_field_does_not_take_the_place_of_a_column() -> None:
    """The column `mode` is read from `state`; a field `mode` beside it is a different field."""
    schema = schema_of(Everything)
    record = sink_record(level=1, state="on", mode="other", schema=schema)
    assert LineMaker(schema, InfluxSettings()).line(record).count("mode=") == 1


def test_a_reading_without_a_value_says_that_the_device_spoke() -> None:
    assert point(sink_record(7, x=None)).fields == {"sequence_id": "7"}


@pytest.mark.parametrize(
    ("place", "part"),
    [("none", "truck-1 x=1 "), ("field", "truck-1 x=1,sequence_id=7i "), ("tag", ",sequence_id=7 x=1 ")],
)
def test_where_the_sequence_id_goes(place: str, part: str) -> None:
    assert part in line(sink_record(7, x=1), influx_sequence_id=place)


def test_a_sensor_of_a_node_is_another_device() -> None:
    made = LineMaker(DEFAULT, InfluxSettings())
    assert ",user_id=n,device_id=d,way=iot x=1" in made.line(sink_record(user="n", device="d", node=True, x=1))
    assert ",user_id=n,device_id=d x=1" in made.line(sink_record(user="n", device="d", x=1))


def test_a_measurement_for_each_user() -> None:
    assert line(sink_record(user="a b", x=1), influx_measurement="of {user}").startswith("of\\ a\\ b,user_id=a\\ b,")
    assert line(sink_record(user="#1", x=1), influx_measurement="{user}").startswith("%231,user_id=#1,")


def test_heads_are_not_kept_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sinks.influx.lines.HEADS_MAX", 3)
    made = LineMaker(DEFAULT, InfluxSettings())
    lines = [made.line(sink_record(device=f"d{number}", x=1)) for number in range(10)]
    assert [f"device_id=d{number} " in text for number, text in enumerate(lines)] == [True] * 10
    assert len(made._heads) <= 3
    assert f"device_id={'d' * 1000} " in made.line(sink_record(device="d" * 1000, x=1))
    assert all(len(head) < 100 for head in made._heads.values())


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), min_size=1, max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS


@given(NAMES, NAMES, st.dictionaries(TEXTS, SCALARS, max_size=6), st.integers(0, 10**15))
def test_a_second_reader_reads_what_was_said(user: str, device: str, extra: dict[str, Any], micros: int) -> None:
    fields = {name: value for name, value in extra.items() if name.strip() and name not in TAKEN}
    raw = {name: json.dumps(value) for name, value in fields.items()}
    given = _with_extra(b"{%s}" % b",".join(f"{json.dumps(name)}:{text}".encode() for name, text in raw.items()))
    found = point(_like(given, _at(given.reading, moment(micros)), user=user, device=device))
    assert found.tags == {"user_id": _as_tag(user), "device_id": _as_tag(device)}
    assert found.time == str(micros)
    said = {_as_tag(name): value for name, value in fields.items() if value is not None}
    expected = {name: value for name, value in said.items() if not isinstance(value, int) or _fits(value)}
    for name, value in expected.items():
        got = json.loads(found.fields[name])
        if isinstance(value, str):
            assert got == value.replace("\n", "\\n").replace("\r", "\\r")  # a line has no line breaks
        else:
            assert got == value if isinstance(value, bool) else float(got) == float(value)
    assert set(found.fields) - set(expected) <= {"sequence_id"}


TAKEN = {"user_id", "device_id", "sequence_id", "time", "timestamp", "temperature", "battery"}


def _fits(value: int) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _as_tag(name: str) -> str:
    """A name or tag after writing and parsing: characters without an escape are replaced."""
    bare = name.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    out = []
    for at, char in enumerate(bare):
        unsayable = char == "\\" and (at + 1 == len(bare) or bare[at + 1] in ",= \\")
        out.append("%5C" if unsayable else char)
    return "".join(out)


def _with_extra(extra: bytes) -> SinkRecord:
    """A record of a payload with exactly these fields."""
    record = sink_record()
    raw = msgspec.json.decode(extra, type=dict[str, msgspec.Raw])
    made = DEFAULT.reading(record.reading.time, "alice", "truck-1", 1, raw, extra.decode(), None, None)
    return _like(record, made)


def _at(found: Any, time: datetime) -> Any:
    return msgspec.structs.replace(found, time=time)


def _like(record: SinkRecord, found: Any, user: str = "alice", device: str = "truck-1") -> SinkRecord:
    return msgspec.structs.replace(record, reading=found, user_id=user, device_id=device, key=f"{user}/{device}")
