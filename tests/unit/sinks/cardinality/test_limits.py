"""Series: known series always pass, new series pass within the limits, others are counted, estimated and reported."""

import json
import random
import tracemalloc
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.settings import Settings
from app.sinks.cardinality.exact import SHARED, KnownSeries
from app.sinks.cardinality.limits import SeriesBounds, SeriesId, SeriesLimit
from app.sinks.cardinality.sketch import SeriesSketch
from app.sinks.decode import SinkDecoder
from app.sinks.record import SinkRecord
from tests.sink_records import message

SETTINGS = Settings(_env_file=None)


def limit(of_sink: int = 0, of_tenant: int = 0, *, drop: bool = True, clock: Any = lambda: 0.0) -> SeriesLimit:
    return SeriesLimit("parquet", SeriesBounds(of_sink, of_tenant, drop), SETTINGS.telemetry_schema, clock)


def record(user: str = "u", device: str = "d", **fields: Any) -> SinkRecord:
    payload = {"sequence_id": 1, "timestamp": message(0).timestamp, **fields}
    (made,) = SinkDecoder(SETTINGS).decode(0, [message(0, payload, user=user, device=device)])
    return made


def test_known_series_pass_and_new_ones_up_to_the_limit() -> None:
    series = limit(3)
    first = record(temperature=1.0, rpm=2)
    assert series.admit([first]) == [first]
    assert series.admit([record(device="e", rpm=1)])[0].device_id == "e"
    assert series.admit([record(device="f", rpm=1)]) == []
    for _ in range(3):
        assert len(series.admit([first, record(device="e", rpm=5)])) == 2
    assert (series.known.count, series.over) == (3, {"sink": 1})
    assert series.fresh == [
        SeriesId("u", "u/d", "temperature"),
        SeriesId("u", "u/d", "rpm"),
        SeriesId("u", "u/e", "rpm"),
    ]


def test_only_the_value_that_is_over_is_dropped() -> None:
    series = limit(2)
    series.admit([record(temperature=1.0, rpm=2)])
    (found,) = series.admit([record(temperature=3.0, rpm=4, new=5, battery=9)])
    assert json.loads(found.reading.extra_json) == {"rpm": 4}
    assert (found.reading.temperature, found.reading.battery) == (3.0, None)
    assert json.loads(found.payload).keys() == {
        "user_id",
        "device_id",
        "sequence_id",
        "timestamp",
        "temperature",
        "rpm",
    }


def test_what_is_nested_is_counted_by_its_path() -> None:
    series = limit(2)
    series.admit([record(engine={"oil": {"temp": 90}, "rpm": 1})])
    (found,) = series.admit([record(engine={"oil": {"temp": 91, "new": 1}, "rpm": 10**30, "fan": {}})])
    assert found.reading.extra_json == '{"engine":{"oil":{"temp":91},"rpm":1%s}}' % ("0" * 30)
    assert series.over == {"sink": 2}


def test_a_tenant_has_a_limit_and_other_tenants_are_not_affected() -> None:
    series = limit(100, 3)
    passed = series.admit([record("greedy", f"d{number}", rpm=1) for number in range(50)])
    assert len(passed) == 3
    assert len(series.admit([record("modest", f"d{number}", rpm=1) for number in range(3)])) == 3
    assert series.over == {"tenant": 47}
    assert series.offenders.top(1) == [("greedy", 47.0)]
    assert series.top(2) == [("greedy", 50), ("modest", 3)]


def test_values_over_a_limit_may_only_be_counted() -> None:
    series = limit(2, drop=False)
    records = [record(device=f"d{number}", rpm=1) for number in range(5)]
    assert series.admit(records) == records
    assert (series.known.count, series.count, series.over) == (2, 5, {"sink": 3})


def test_what_was_known_before_is_known_after_a_restart() -> None:
    before = limit(10)
    before.admit([record(device=f"d{number}", rpm=1) for number in range(20)])
    after = limit(10)
    for one in before.fresh:
        after.know(one)
    assert len(after.admit([record(device=f"d{number}", rpm=1) for number in range(20)])) == 10
    assert after.fresh == []


def test_a_record_without_a_reading_is_no_series() -> None:
    series = limit(1)
    bare = SinkRecord("t", 0, 0, 0, record().kind, "u", "", "u", None, b"online", (), None)
    assert series.admit([bare] * 3) == [bare] * 3


def test_the_log_names_who_it_is_once_a_minute_and_says_early_that_it_gets_near() -> None:
    now = [0.0]
    series = limit(10, clock=lambda: now[0])
    with capture_logs() as lines:
        for second in range(0, 130, 10):
            now[0] = float(second)
            series.admit([record("bob", f"d{second}-{number}", rpm=1) for number in range(5)])
    near = [line for line in lines if line["event"] == "cardinality_near_limit"]
    assert [(line["series"], line["limit"], line["user"]) for line in near] == [(9, 10, None)]
    over = [line for line in lines if line["event"] == "Cardinality limit exceeded"]
    assert len(over) == 2
    assert all(line["user"] == "bob" and line["sink"] == "parquet" and line["limit"] == "sink: 10" for line in over)
    assert over[1]["values"] == 30


def test_a_hundred_thousand_series_fit() -> None:
    columns = [one.name for one in SETTINGS.telemetry_schema.columns]
    tracemalloc.start()
    try:
        known = KnownSeries(columns)
        for number in range(50_000):
            known.add(f"u{number % 100}", f"u{number % 100}/device-{number}", "temperature")
            known.add(f"u{number % 100}", f"u{number % 100}/device-{number}", "rpm")
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert known.count == 100_000
    assert used < 32e6


def test_a_device_that_makes_up_fields_costs_no_more_than_others() -> None:
    tracemalloc.start()
    try:
        known = KnownSeries(["temperature"])
        for number in range(20_000):
            assert known.add("u", "u/d", f"field-{number}")
        for device in range(500):
            for number in range(SHARED + 4):
                known.add("u", f"u/{device}", f"f{random.random()}" if number else "temperature")
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert known.of_user("u") == 20_000 + 500 * (SHARED + 4)
    assert known.devices["u/d"].missing == ("temperature",)
    assert known.devices["u/7"].missing == ()
    assert used < 20e6


@pytest.mark.parametrize("count", [100, 50_000])
def test_the_estimate(count: int) -> None:
    sketch = SeriesSketch()
    assert sketch.estimate == 0
    for number in range(count):
        for _ in range(2):
            sketch.add(f"u{number % 2}", f"device-{number}", "rpm")
    assert abs(sketch.estimate - count) < 0.06 * count
    assert sum(sketch.of_users.values()) == pytest.approx(count, rel=0.1)
