"""From alert events to figures, and from figures to blocks."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backtest.alert_spans import Spans
from app.backtest.duration import duration, spoken
from app.backtest.plot import BLOCKS, bars, blocks
from app.backtest.summary import BINS, RuleFigures, Summary
from app.core.model.alert_event import AlertEvent, Status
from app.errors import PermanentError
from tests.unit.readings import START


def event(minute: float, name: str, status: Status, device: str = "d", rule: str = "r") -> AlertEvent:
    time = START + timedelta(minutes=minute)
    return AlertEvent(name, "u", device, rule, status, "warning", "m", 90, 80, time, time)


FIRING, RESOLVED, REMINDER, STALE = Status.FIRING, Status.RESOLVED, Status.REMINDER, Status.STALE


def summed(events: list[AlertEvent], minutes: float = 60) -> Summary:
    summary, spans = Summary(START, START + timedelta(minutes=minutes)), Spans()
    for one in events:
        if (ended := spans.add(one)) is not None:
            summary.add(ended)
    for span in spans.open.values():
        summary.add(span)
    return summary


def test_alerts_flaps_lengths_and_what_is_open() -> None:
    events = [event(0, "1", FIRING), event(1, "1", REMINDER), event(2, "1", STALE), event(10, "1", RESOLVED)]
    events += [event(14.9, "2", FIRING), event(15, "2", RESOLVED)]  # 4.9 minutes after: a flap
    events += [event(20, "3", FIRING), event(21, "3", RESOLVED)]  # 5 minutes after: none
    events += [event(22, "4", FIRING, "other"), event(50, "5", FIRING)]
    found = summed(events).figures
    assert found == [
        RuleFigures("r", "d", alerts=4, open=1, flaps=1, seconds=600 + 6 + 60 + 600, longest=600),
        RuleFigures("r", "other", alerts=1, open=1, seconds=38 * 60, longest=38 * 60),
    ]


def test_of_rules() -> None:
    summary = summed([event(0, "1", FIRING), event(1, "1", RESOLVED), event(2, "2", FIRING, "other")])
    assert summary.of_rules(["r", "none"]) == [
        RuleFigures("r", "2", alerts=2, open=1, seconds=60 + 58 * 60, longest=58 * 60),
        RuleFigures("none", "0"),
    ]


def test_over_time() -> None:
    events = [event(minute, str(minute), FIRING, rule="a" if minute else "b") for minute in (0, 0.5, 1, 59.99)]
    over = summed(events, minutes=BINS).over_time
    assert over["b"] == [1] + [0] * (BINS - 1)
    assert over["a"] == [1, 1] + [0] * (BINS - 3) + [1]


counts_of = st.lists(st.integers(0, 1000), min_size=1, max_size=80)


@given(counts_of)
def test_blocks_are_the_higher_the_more(counts: list[int]) -> None:
    line = blocks(counts)
    heights = [BLOCKS.index(char) for char in line]
    assert len(line) == len(counts)
    assert [height == 0 for height in heights] == [count == 0 for count in counts]
    ranked = sorted(zip(counts, heights, strict=True))
    assert [height for _, height in ranked] == sorted(heights)
    assert max(heights) == (8 if max(counts) else 0)


@given(counts_of, st.integers(1, 6))
def test_bars_stand_on_the_ground(counts: list[int], height: int) -> None:
    for column in zip(*bars(counts, height), strict=True):
        assert list(column) == sorted(column, key=BLOCKS.index)  # top to bottom


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43200), ("7d", 604800), ("2w", 1209600)]
)
def test_durations(text: str, seconds: int) -> None:
    assert duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1.5h", "7 d", "7d ", "9999999d", "\u0667d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(PermanentError, match="7d"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.25, "0.25 s"), (59.4, "59.4 s"), (60, "1 min"), (61.6, "1 min 2 s"), (7500, "2 h 5 min"),
     (86400, "1 d"), (90061, "1 d 1 h"), (86459, "1 d")],
)  # fmt: skip
def test_spoken(seconds: float, words: str) -> None:
    assert spoken(seconds) == words
