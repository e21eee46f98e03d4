"""The value of a reading in Redis, and which of two readings is kept."""

import json
from decimal import Decimal

import msgspec
import pytest
from msgspec import Struct

from app.core.schema.schema import schema_of
from app.sinks.redis.values import newest, replaces, value_maker
from tests import DEFAULT
from tests.sink_readings import sink_record
from tests.unit.readings import reading

SETBACK = 300_000.0  # milliseconds


class Priced(Struct):
    """A column of an exact type."""

    price: Decimal


def test_a_value_is_the_row_as_json() -> None:
    record = sink_record(7, seconds=0.5, temperature=21.5, humidity=41.2, deep={"a": [1]})
    value = value_maker(DEFAULT)(record).decode()
    ids = '"user_id":"alice","device_id":"truck-1","temperature":21.5,"battery":null'
    head = '{"time":"2026-11-21T02:00:00.500000Z","ingest_ms":1795226400510,"sequence_id":7,'
    assert value == f'{head}{ids},"extra_data":{{"humidity":41.2,"deep":{{"a": [1]}}}}}}'


@pytest.mark.parametrize(
    ("seconds", "time"), [(0, "2026-11-21T02:00:00Z"), (0.000001, "02:00:00.000001Z"), (0.1, "02:00:00.100000Z")]
)
def test_times_have_no_digits_or_six(seconds: float, time: str) -> None:
    """The script LAST_VALUES compares times as text."""
    assert json.loads(value_maker(DEFAULT)(sink_record(seconds=seconds)))["time"].endswith(time)


def test_digits_are_exact() -> None:
    schema = schema_of(Priced)
    value = value_maker(schema)(sink_record(price="1.10", count=2**60, schema=schema))
    assert b'"price":1.10,' in value
    assert b'"count":1152921504606846976' in value


def test_no_number_is_null() -> None:
    record = msgspec.structs.replace(sink_record(), reading=reading(temperature=float("nan")))
    assert b'"temperature":null' in value_maker(DEFAULT)(record)


@pytest.mark.parametrize(
    ("seconds", "sequence", "came", "stays"),
    [
        (1, 1, 1, True),
        (0, 6, 1, True),  # equal time, and later by sequence_id
        (0, 5, 1, True),  # a repeat
        (0, 4, 1, False),
        (-1, 9, 1, False),
        (-1, 9, 299, False),
        (-1, 9, 300, True),  # the device has sent only older readings for the setback time
        (-1, 9, -300, False),  # a replay
    ],
)
def test_which_of_two_readings_stays(seconds: float, sequence: int, came: float, stays: bool) -> None:
    known = sink_record(0, seconds=0, came=0, sequence=5)
    record = sink_record(1, seconds=seconds, came=came, sequence=sequence)
    assert replaces(record, known, SETBACK) == stays
    assert replaces(record, known, 0) == (stays and seconds >= 0)


def test_of_each_device_the_newest() -> None:
    records = [
        sink_record(0, device="a", seconds=5),
        sink_record(1, device="b", seconds=1),
        sink_record(2, device="a", seconds=3),
        sink_record(3, user="bob", device="a", seconds=1),
        sink_record(4, user="alice", device="a", seconds=1, node=True),
        sink_record(5, device="b", seconds=2),
    ]
    found = newest(records, SETBACK)
    assert list(found.values()) == [0, 5, 3, 4]
    assert list(found) == ["alice/a", "alice/b", "bob/a", "iot/alice/a"]
