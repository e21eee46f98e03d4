"""When a record came in: what is believed, in which order, and that one who is in a hurry gets the same."""

import itertools

import pytest

from app.core.model.arrival import AHEAD_MS, EARLIEST_MS, arrival, arrived_ms, is_live, moment_of, said_ms
from tests.unit.records import NOW, NOW_MS, Message

HOUR = 3_600_000
IMPLAUSIBLE = [
    -1,
    0,
    NOW_MS // 1000,
    NOW_MS * 1000,
    NOW_MS * 1_000_000,
    NOW_MS + AHEAD_MS + 1,
    EARLIEST_MS - 1,
    2**63 - 1,
]
UNREADABLE = [b"", b"-1", b"1e12", b"soon", b"9" * 400, "١٧٩٥٢٣٠٠٠٠٠٠٠".encode(), b"1795230000000.0", None]


def record(header: object, timestamp: int) -> Message:
    value = b"%d" % header if isinstance(header, int) else header
    return Message(headers=[("ingest_ms", value)], timestamp=timestamp)  # type: ignore[list-item]


@pytest.mark.parametrize("timestamp", [*IMPLAUSIBLE, NOW_MS])
def test_the_header_comes_first(timestamp: int) -> None:
    for ms in (NOW_MS - HOUR, EARLIEST_MS, NOW_MS + AHEAD_MS):
        assert arrived_ms(record(ms, timestamp), NOW_MS) == ms


@pytest.mark.parametrize("header", [*IMPLAUSIBLE, *UNREADABLE])
def test_the_timestamp_is_next_and_then_the_clock(header: object) -> None:
    assert arrived_ms(record(header, NOW_MS - HOUR), NOW_MS) == NOW_MS - HOUR
    assert said_ms(record(header, NOW_MS - HOUR), NOW_MS) == NOW_MS - HOUR
    for timestamp in IMPLAUSIBLE:
        assert arrived_ms(record(header, timestamp), NOW_MS) == NOW_MS
        assert said_ms(record(header, timestamp), NOW_MS) is None


def test_the_first_header_that_can_be_believed_counts() -> None:
    headers = [("ingest_ms", b"%d" % ms) for ms in (NOW_MS * 1000, NOW_MS - 5, NOW_MS - 7)]
    assert arrived_ms(Message(headers=headers), NOW_MS) == NOW_MS - 5


def test_what_bears_the_same_third_header_came_in_at_the_same_time() -> None:
    """As app.core.processing.processor looks at it: never another time than `arrived_ms`."""
    stamps = [b"%d" % (NOW_MS - 5), b"%d" % (NOW_MS - 7), b"%d" % (NOW_MS * 1000), b"soon"]
    some = [("kind", b"telemetry"), *[("ingest_ms", stamp) for stamp in stamps]]
    times: dict[tuple[str, bytes], int] = {}
    for headers in [*itertools.product(some, repeat=3)] * 2:
        one = Message(headers=headers, timestamp=NOW_MS - 9)
        at = times.get(headers[2])
        if at is None or headers[0][0] == "ingest_ms" or headers[1][0] == "ingest_ms":
            at = arrival(one, NOW_MS, times)
        assert at == arrived_ms(one, NOW_MS), headers
    assert times == {("ingest_ms", b"%d" % (NOW_MS - ago)): NOW_MS - ago for ago in (5, 7)}


@pytest.mark.parametrize(
    ("headers", "timestamp", "live"),
    [
        ([], NOW_MS, True),
        ([("ingest_ms", b"%d" % (NOW_MS - 60_000))], NOW_MS, True),
        ([("ingest_ms", b"%d" % (NOW_MS - 60_001))], NOW_MS, False),  # a replay, or Kafka was away for so long
        ([("ingest_ms", b"%d" % (NOW_MS - 24 * HOUR * 9))], NOW_MS, False),
        ([("ingest_ms", b"%d" % (NOW_MS - 1)), ("replay_count", b"1")], NOW_MS, False),
        ([("ingest_ms", b"%d" % (NOW_MS - 1))], NOW_MS * 1000, True),
        ([], NOW_MS * 1000, False),  # nobody knows
    ],
)
def test_what_came_live(headers: list[tuple[str, bytes]], timestamp: int, live: bool) -> None:
    record = Message(headers=headers, timestamp=timestamp)
    assert is_live(record, arrived_ms(record, NOW_MS)) is live


def test_moments() -> None:
    assert moment_of(NOW_MS) == NOW
