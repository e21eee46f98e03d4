"""The auditors of the sinks detect each error of a destination: lost, repeated, altered and skipped readings."""

from datetime import UTC, datetime

import pytest

from tools.faults.sinks.found import Audit, FoundReading
from tools.faults.stream import Stream

MESSAGES, DEVICES = 600, 10
STREAM = Stream("k", "u", DEVICES, 1, datetime(2026, 11, 21, tzinfo=UTC))
GOOD = [n for n in range(MESSAGES) if not STREAM.bad(n)]
BAD = next(n for n in range(MESSAGES) if STREAM.bad(n))


def reading(n: int, temperature: float | None = None) -> FoundReading:
    return FoundReading(STREAM.device(n), n, STREAM.temperature(n) if temperature is None else temperature)


READINGS = [reading(n) for n in GOOD]


def audit(twice: int | None = None) -> Audit:
    """Audit with each message once on the topic, and `twice` twice."""
    times = bytearray(b"\1" * MESSAGES)
    if twice is not None:
        times[twice] = 2
    return Audit("lake", [STREAM], {"k": times})


def said(found: Audit) -> list[str]:
    """The problems without their examples."""
    return [one.partition(", such as")[0] for one in found.problems]


def test_what_is_right_is_right() -> None:
    for check in ("each_as_often_as_on_the_topic", "each_once", "each_at_least_once_and_in_order"):
        one = audit()
        getattr(one, check)(READINGS)
        assert one.problems == [], check
    one = audit()
    one.the_last_of_each_device(READINGS[-DEVICES:])
    assert one.problems == []


@pytest.mark.parametrize("check", ["each_as_often_as_on_the_topic", "each_once", "each_at_least_once_and_in_order"])
def test_what_is_lost(check: str) -> None:
    one = audit()
    getattr(one, check)([*READINGS[:-20], *READINGS[-19:]])
    assert "lake: lost: 1" in said(one)


@pytest.mark.parametrize("check", ["each_as_often_as_on_the_topic", "each_once"])
def test_what_is_doubled(check: str) -> None:
    one = audit()
    getattr(one, check)([*READINGS, READINGS[5]])
    assert said(one) == ["lake: doubled: 1"]


def test_what_came_twice_is_in_the_files_twice_and_elsewhere_once() -> None:
    again = GOOD[7]
    files, points = audit(twice=again), audit(twice=again)
    files.each_as_often_as_on_the_topic([*READINGS, reading(again)])
    points.each_once(READINGS)
    assert files.problems == points.problems == []
    files.each_as_often_as_on_the_topic(READINGS)
    assert said(files) == ["lake: lost: 1"]


@pytest.mark.parametrize(
    "wrong",
    [reading(BAD, 0.0), reading(GOOD[3], 21.5), FoundReading("k1", 2, 75.0), FoundReading("x1", 1, 75.0), reading(-9)],
    ids=["one that is bad", "another temperature", "another device", "a stranger's", "a number that was never sent"],
)
def test_what_should_not_be_there(wrong: FoundReading) -> None:
    one = audit()
    one.each_once([*READINGS, wrong])
    assert one.problems[0].startswith("lake: unexpected or altered readings: 1, such as")


def test_a_value_that_is_not_the_last() -> None:
    one = audit()
    older = next(n for n in reversed(GOOD) if STREAM.device(n) == STREAM.device(GOOD[-1]) and n != GOOD[-1])
    one.the_last_of_each_device([*READINGS[-DEVICES:-1], reading(older)])
    assert said(one) == ["lake: not the last value: 1", "lake: no last value, or an older value: 1"]


def of_one_device() -> list[FoundReading]:
    return [one for one in READINGS if one.device == "k4"]


def test_repeats_are_counted_and_may_begin_further_back() -> None:
    mine = of_one_device()
    others = [one for one in READINGS if one.device != "k4"]
    one = audit()
    one.each_at_least_once_and_in_order([*mine[:20], *others, *mine[12:30], *mine[30:]])
    assert (one.problems, one.repeats) == ([], 8)


def test_a_reading_before_the_one_that_comes_before_it() -> None:
    mine = of_one_device()
    others = [one for one in READINGS if one.device != "k4"]
    for order in (
        [*mine[:10], mine[11], mine[10], *mine[12:]],
        [*mine[:10], mine[11], *mine[10:]],  # each is in order at the end, and yet one was skipped before
    ):
        one = audit()
        one.each_at_least_once_and_in_order([*others, *order])
        assert said(one)[0].startswith("lake: before its predecessor: ")
