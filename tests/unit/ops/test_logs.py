"""A library that repeats itself is logged once an interval; a program's own lines, and crashes, always."""

import json
import logging
import sys

import pytest
import structlog

from app.ops.logs import MOST_TEXTS, OncePerInterval, configure
from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.tracing import CURRENT, TraceSpan
from app.settings import Settings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def line(text: object, *values: object, name: str = "aiokafka", crash: bool = False) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "x.py", 1, text, values, sys.exc_info() if crash else None)


def test_the_same_text_with_other_values_is_written_once_an_interval() -> None:
    clock = Clock()
    once = OncePerInterval(10, clock)
    assert [once.filter(line("node %s is away", n)) for n in range(100)] == [True] + [False] * 99
    assert once.filter(line("another %s", 1))
    assert once.filter(line("node %s is away", 1, name="faust"))
    clock.now = 10
    later = line("node %s is away", 7)
    assert once.filter(later)
    assert later.getMessage() == "node 7 is away (and 99 more like it)"
    clock.now = 20
    alone = line("node %s is away", 8)
    assert once.filter(alone)
    assert alone.getMessage() == "node 8 is away"


def test_own_lines_and_crashes_are_all_written() -> None:
    once = OncePerInterval(10, Clock())
    assert all(once.filter(line({"event": "dead_letters"}, name="app")) for _ in range(5))
    try:
        raise RuntimeError
    except RuntimeError:
        assert all(once.filter(line("crash", crash=True)) for _ in range(5))


def test_what_is_remembered_is_bounded() -> None:
    once = OncePerInterval(10, Clock())
    for number in range(3 * MOST_TEXTS):
        once.filter(line(f"value {number} in the text"))
    assert len(once._logged) <= MOST_TEXTS + 1


def test_a_traceback_for_a_person_shows_no_values(capfd: pytest.CaptureFixture[str]) -> None:
    """A library that draws tracebacks with all local variables is taken when it is there, and it is."""
    before = logging.getLogger().handlers[:], logging.getLogger().level
    password = "hunter2-not-for-logs"  # not a secret
    try:
        configure(Settings(log_format="human"))
        for number in range(1):
            try:
                int(password[:0] or "x") + number
            except ValueError:
                structlog.get_logger().exception("crashed")
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
        structlog.reset_defaults()
    reported = capfd.readouterr().err
    assert "crashed" in reported
    assert "ValueError" in reported
    assert password not in reported


class Within(TraceSpan):
    context = SpanContext(0xABC, 0xDEF)


def test_lines_within_a_span_have_its_ids(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure(Settings(log_format="json"))
        structlog.get_logger().warning("outside")
        within = CURRENT.set(Within())
        structlog.get_logger().warning("ours")
        logging.getLogger("aiokafka").warning("a library's")
        CURRENT.reset(within)
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
        structlog.reset_defaults()
    outside, *inside = (json.loads(text) for text in capfd.readouterr().err.splitlines())
    assert "trace_id" not in outside
    assert [one["event"] for one in inside] == ["ours", "a library's"]
    assert [(one["trace_id"], one["span_id"]) for one in inside] == [("0" * 29 + "abc", "0" * 13 + "def")] * 2
