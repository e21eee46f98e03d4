"""Which advice an operator gets, and how often."""

import asyncpg

from app.postgres.events import NoStoreEvents
from app.postgres.operator_advice import REMIND_SECONDS, Advice


class ReportedEvents(NoStoreEvents):
    """Keeps the advice that is reported."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def operator_needed(self, message: str) -> None:
        self.events.append(message)

    def operator_done(self) -> None:
        self.events.append("done")


def test_advice_is_repeated_once_a_minute_and_when_it_changes() -> None:
    reported, now = ReportedEvents(), [0.0]
    advice = Advice(reported, lambda: now[0])
    table, right = asyncpg.UndefinedTableError("no table"), asyncpg.InsufficientPrivilegeError("no right")
    for _ in range(3):
        advice.failed("writes", table)
    assert len(reported.events) == 1
    assert reported.events[0].startswith("writes: 42P01 no table: ")
    advice.failed("writes", right)
    now[0] += REMIND_SECONDS
    advice.failed("writes", right)
    assert [event[8:13] for event in reported.events] == ["42P01", "42501", "42501"]


def test_done_once_every_part_is() -> None:
    reported = ReportedEvents()
    advice = Advice(reported)
    advice.failed("writes", asyncpg.DiskFullError("full"))
    advice.failed("rules", asyncpg.UndefinedTableError("no table"))
    assert set(advice.now) == {"writes", "rules"}
    advice.settled("writes")
    assert "done" not in reported.events
    advice.settled("rules")
    advice.settled("rules")
    assert reported.events[2:] == ["done"]
    assert advice.now == {}


def test_an_outage_needs_nobody() -> None:
    reported = ReportedEvents()
    advice = Advice(reported)
    advice.failed("writes", ConnectionRefusedError("refused"))
    assert advice.now["writes"] == (
        "ConnectionRefusedError: refused: wait: the worker goes on by itself once the database answers"
    )
    advice.settled("writes")
    assert (advice.now, reported.events) == ({}, [])
