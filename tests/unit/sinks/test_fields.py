"""Fields by name, and records without some fields; no payload takes unbounded time or memory."""

import json
import time
from typing import Any

import msgspec
import pytest

from app.sinks.fields import PATH_LONGEST, names_of, without
from app.sinks.record import SinkRecord
from tests.sink_readings import sink_record

KNOWN = ("user_id", "device_id", "sequence_id", "timestamp")
COLUMNS = {"temperature": "temperature", "battery": "battery"}


def names(record: SinkRecord) -> list[str]:
    return names_of(record.reading, tuple(COLUMNS))


def left(record: SinkRecord, *paths: str) -> Any:
    """The fields of the payload without these, except ids and time."""
    found = json.loads(without(record, paths, COLUMNS).payload)
    return {
        name: value for name, value in found.items() if name not in ("user_id", "device_id", "sequence_id", "timestamp")
    }


def test_names_are_columns_then_paths() -> None:
    record = sink_record(temperature=1, a=1, b={"c": {"d": 1, "e": []}, "f": {}}, g=[{"h": 1}])
    assert names(record) == ["temperature", "a", "b.c.d", "b.c.e", "b.f", "g"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ((), {"temperature": 1, "a": 1, "b": {"c": {"d": 1}, "e": 2}}),
        (("a", "temperature"), {"b": {"c": {"d": 1}, "e": 2}}),
        (("b.c.d",), {"temperature": 1, "a": 1, "b": {"e": 2}}),
        (("b.c.d", "b.e"), {"temperature": 1, "a": 1}),
        (("b",), {"temperature": 1, "a": 1}),
        (("b.c.x", "c", "d"), {"temperature": 1, "a": 1, "b": {"c": {"d": 1}, "e": 2}}),
    ],
)
def test_a_record_without_some(paths: tuple[str, ...], expected: dict[str, Any]) -> None:
    record = sink_record(temperature=1, a=1, b={"c": {"d": 1}, "e": 2})
    assert left(record, *paths) == expected
    assert msgspec.json.decode(without(record, paths, COLUMNS).reading.extra_json) == {
        name: value for name, value in expected.items() if name != "temperature"
    }


def test_long_names_are_cut_and_stay_distinct() -> None:
    record = sink_record(**{"x" * 300: 1, "x" * 301: 2, "y" * 300: {"a": 1, "b": 2}})  # type: ignore[arg-type]
    found = names(record)
    assert len(set(found)) == 4
    assert max(map(len, found)) <= PATH_LONGEST
    assert list(left(record, found[1], found[2])) == ["x" * 300, "y" * 300]
    assert left(record, found[1], found[2])["y" * 300] == {"b": 2}


def test_one_payload_costs_little_whatever_it_has() -> None:
    """Without bounds, a long name before many fields takes gigabytes, and removing many fields takes minutes."""
    wide: dict[str, Any] = {"x" * 100_000: {f"f{number}": 1 for number in range(20_000)}}
    wide |= {f"stays{number}": {"a": 1} for number in range(8_000)} | {f"goes{number}": 1 for number in range(15_000)}
    record = sink_record(**wide)
    began = time.process_time()
    found = names(record)
    assert sum(map(len, found)) < 50_000 * PATH_LONGEST
    kept = without(record, [name for name in found if not name.startswith("stays")], COLUMNS)
    assert len(kept.reading.extra) == 8_000
    assert time.process_time() - began < 10.0, "seconds; a tenth of one on a quiet machine"
