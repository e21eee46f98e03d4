"""Readings without a time, delivered again by MQTT: stored once, whatever crashes; equal readings stay two rows."""

import random
from typing import Any

import msgspec
import pytest

from app.core.batch.books import books
from app.core.batch.effects import WriteResult
from app.core.decode.decoder import DecodeLimits
from app.core.processing.processor import Processor
from app.core.state import message_marks
from app.core.state.device_state import DeviceState, decode, encode
from app.core.state.keys import MARK_KEY
from app.core.state.message_marks import LAST, MOST, SIZE, WITHIN_MS, MessageMarks
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.core.processing.test_processor import HOT, Given, Subject
from tests.unit.records import NOW_MS, Message

TOPIC = b"iot/u/s/telemetry"


def undated(
    offset: int, number: int | None, *, again: bool = False, value: bytes = b'{"temperature": 21.5}'
) -> Message:
    """As the bridge writes it; `number` is the packet id, None at QoS 0."""
    headers = [("mqtt_topic", TOPIC), ("kind", b"telemetry"), ("ingest_ms", b"%d" % (NOW_MS + offset))]
    if number is not None:
        headers.append(("mqtt_id", b"%d" % number))
    if again:
        headers.append(("mqtt_dup", b"1"))
    return Message(value, headers, b"u", NOW_MS + offset, offset)


@pytest.mark.parametrize("rules", [(), (HOT,)])
def test_a_redelivery_is_a_duplicate_and_an_equal_reading_is_none(rules: Any) -> None:
    subject = Subject(*rules)
    records = [undated(0, 7), undated(1, 8), undated(2, 7, again=True), undated(3, 9, again=True), undated(4, 7)]
    work = subject(*records)
    assert [record.offset for record in work.sources] == [0, 1, 3, 4], "9 never came before, and 7 is in use again"
    assert [record.offset for record in work.again] == [2]
    found = books(records, work, WriteResult(len(work.rows)))
    assert (found.received, found.stored, found.duplicate) == (5, 4, 1)
    later = subject(undated(5, 9, again=True), epoch=2)
    assert (len(later.rows), len(later.again)) == (0, 1), "the second redelivery of what was one already"


def test_what_bears_a_time_is_left_to_its_key() -> None:
    value = msgspec.json.encode({"time": NOW_MS, "temperature": 20})
    work = Subject()(undated(0, 7, value=value), undated(1, 7, again=True, value=value))
    assert len({row[:4] for row in work.rows}) == 1
    assert len(work.rows) == 2
    assert set(work.states) == {MARK_KEY}, "and costs no state"


def test_at_qos_0_nothing_comes_again_and_nothing_is_kept() -> None:
    work = Subject()(undated(0, None), undated(1, None))
    assert len(work.rows) == 2
    assert set(work.states) == {MARK_KEY}


def test_the_last_messages_are_known() -> None:
    subject = Subject()
    subject(*(undated(n, n + 1) for n in range(LAST)))
    work = subject(*(undated(LAST + n, n + 1, again=True) for n in range(LAST)), epoch=2)
    assert (len(work.rows), len(work.again)) == (0, LAST)


def test_of_a_fast_device_more_are_known_and_memory_is_bounded() -> None:
    state = DeviceState(marks=MessageMarks())
    assert state.marks
    for number in range(MOST):
        state.marks.add(number.to_bytes(SIZE, "big"), NOW_MS + number * WITHIN_MS // MOST)
    assert all(state.marks.has(number.to_bytes(SIZE, "big")) for number in range(MOST))
    for number in range(10 * MOST):
        state.marks.add(number.to_bytes(SIZE, "big"), NOW_MS)
    assert len(encode(state)) < 2 * MOST * SIZE + 100
    slow = DeviceState(marks=MessageMarks())
    assert slow.marks
    for number in range(1000):
        slow.marks.add(number.to_bytes(SIZE, "big"), NOW_MS + 1000 * number)
    assert all(slow.marks.has(number.to_bytes(SIZE, "big")) for number in range(1000 - LAST, 1000))
    assert len(encode(slow)) < 2 * LAST * SIZE + 100


@pytest.mark.parametrize("at", [0, -5, 10**18])
def test_a_clock_that_says_anything_keeps_the_last_ones(at: int) -> None:
    subject = MessageMarks()
    for number in range(200):
        subject.add(number.to_bytes(SIZE, "big"), at * number)
    assert all(subject.has(number.to_bytes(SIZE, "big")) for number in range(200 - LAST, 200))


def test_a_mark_is_found_at_its_place_alone() -> None:
    subject = MessageMarks(0, b"\1\2\3\4\5" + b"\6\7\1\2\3")
    assert subject.has(b"\1\2\3\4\5")
    assert subject.has(b"\6\7\1\2\3")
    assert not subject.has(b"\3\4\5\6\7")
    assert not subject.has(b"\1\2\3\0\0")


def test_they_are_kept_with_the_state() -> None:
    state = DeviceState(3, marks=MessageMarks(5, b"\1\2\3\4\5"))
    assert decode(encode(state)) == DeviceState(3, marks=MessageMarks(5, b"\1\2\3\4\5"), persisted_offset=3)
    assert len(encode(DeviceState(3))) == 4, "and cost nothing where there are none"


def traffic(chosen: random.Random) -> list[Message]:
    """Messages, and bridges that die with some of them in flight."""
    log: list[Message] = []
    unacked: list[int] = []  # packet ids, each of one message
    unseen: set[int] = set()  # ids whose first delivery did not come so far; the second delivery is acknowledged
    for number in range(1, chosen.randrange(5, 60)):
        if chosen.random() < 0.15:
            for again in unacked[chosen.randrange(len(unacked) + 1) :]:
                log.append(undated(len(log), again, again=True))
            unacked = [one for one in unacked if one not in unseen]
        unacked = [*unacked, number][-LAST // 2 :]
        if chosen.random() < 0.9:
            log.append(undated(len(log), number))
        else:
            unseen.add(number)
    return log


@pytest.mark.parametrize("seed", range(150))
def test_once_whatever_crashes(seed: int) -> None:
    """Bridges die, workers die between any two of rows, states and commit, committed offsets are put back."""
    log = traffic(random.Random(f"{seed} log"))
    numbers = {dict(record.headers)["mqtt_id"] for record in log}
    chosen, states = random.Random(seed), dict[bytes, bytes]()
    load = lambda _, key: states.get(key)  # noqa: E731
    rows: set[Any] = set()
    committed, lives = 0, chosen.randrange(1, 6)
    for life in range(lives):
        processor = Processor(DecodeLimits(), DEFAULT, RuleBook(DEFAULT), load, in_memory=1)
        position = committed = chosen.choice([committed, committed, 0])
        while position < len(log):
            batch = Given(log[position : position + chosen.randrange(1, 9)])
            work = processor(batch, NOW_MS / 1000)
            last = life == lives - 1
            rows |= {row[:4] for row in work.rows}
            if not last and chosen.random() < 0.2:
                break
            states |= work.states
            position = batch.next_offset
            if not last and chosen.random() < 0.2:
                break
            committed = position
            processor.closed(batch)
    assert len(rows) == len(numbers)


def test_where_rows_are_made_anew_none_is_lost() -> None:
    """The database is restored from a backup, and all is replayed under the states of now."""
    subject = Subject()
    log = [undated(0, 1), undated(1, 2, again=True), undated(2, 1, again=True)]
    first = subject(*log)
    again = subject(*log, epoch=2)
    assert [row[:4] for row in again.rows] == [row[:4] for row in first.rows]
    assert len(again.rows) == 2
    tail = subject(*log[1:], epoch=3)
    assert [record.offset for record in tail.sources] == [1]


def test_what_is_promised_of_the_marks() -> None:
    assert (message_marks.LAST, message_marks.SIZE) == (32, 5)
