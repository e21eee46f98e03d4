"""A batch in, all that it asks of the world out."""

import gc
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from app.core.batch.effects import Statement
from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.model.records import Kind, Reason, Record, Stage
from app.core.processing.batch_end import MARK_SECONDS
from app.core.processing.cached_device import WEIGHS_ONE, CachedDevice
from app.core.processing.processor import OTHER_BYTES, SLICE, Processor
from app.core.state.device_state import decode
from app.core.state.keys import MARK_KEY
from app.core.state.partition_log import LOG_KEY
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.readings import rule
from tests.unit.records import Message

NOW = float(int(time.time()))
START = datetime.fromtimestamp(NOW, UTC) - timedelta(hours=1)


class Given:
    topic = "in"

    def __init__(self, records: Sequence[Message], partition: int = 0, epoch: int = 1) -> None:
        self.records: Sequence[Record] = records
        self.partition, self.epoch = partition, epoch
        self.first_offset, self.next_offset = records[0].offset, records[-1].offset + 1

    def current(self) -> bool:
        return True

    async def ack(self) -> None:
        raise AssertionError("only the pipeline acks")


class Subject:
    def __init__(self, *rules: dict[str, object]) -> None:
        self.states: dict[tuple[int, bytes], bytes] = {}
        self.loads: list[tuple[int, bytes]] = []
        self.book = RuleBook(DEFAULT)
        if rules:
            self.rules(*rules)
        self.processor = Processor(DecodeLimits(), DEFAULT, self.book, self._load)

    def rules(self, *rules: dict[str, object]) -> None:
        assert self.book.apply([("u", msgspec.json.encode(rules).decode())]) == []

    def _load(self, partition: int, key: bytes) -> bytes | None:
        self.loads.append((partition, key))
        return self.states.get((partition, key))

    def device(self, name: str) -> CachedDevice:
        return self.processor.partitions.partition(1, 0).devices["u", name]

    def __call__(self, *records: Message, partition: int = 0, epoch: int = 1, now: float = NOW) -> BatchOutput:
        work = self.processor(Given(records, partition, epoch), now)
        self.states |= {(partition, key): value for key, value in work.states.items()}
        return work


def telemetry(offset: int, device: str = "d", headers: Any = (), **fields: Any) -> Message:
    body = {"time": START + timedelta(seconds=offset), "sequence_id": offset} | fields
    topic = ("mqtt_topic", f"users/u/devices/{device}/telemetry".encode())
    return Message(msgspec.json.encode(body), (topic, *headers), f"u/{device}".encode(), int(NOW * 1000), offset)


def other(topic: str, payload: bytes, offset: int) -> Message:
    return Message(payload, (("mqtt_topic", topic.encode()),), b"k", int(NOW * 1000), offset)


HOT = rule("temperature", ">", 80)


def test_every_record_ends_in_exactly_one_place() -> None:
    silence = Message(b"", (("kind", b"silence"),), b"u/d", offset=5)
    records = [
        telemetry(0, temperature=20),
        other("iot/n1/status", b"online", 1),
        other("users/u/config", b"[]", 2),
        other("users/u/config", b"{", 3),
        other("users/u/alerts/manage", b"{}", 4),
        silence,
        other("nowhere", b"{}", 6),
        Message(b"{broken", telemetry(7).headers, b"u/d", offset=7),
    ]
    work = Subject()(*records)
    assert [row[3] for row in work.rows] == [0]
    assert work.sources == [records[0]]
    assert [effect.statement for effect in work.effects] == [Statement.UPSERT_STATUS, Statement.UPSERT_CONFIG]
    assert work.effect_sources == [records[1], records[2]]
    assert [(one.record.offset, one.reason) for one in work.rejected] == [
        (3, Reason.INVALID_RULES),
        (4, Reason.INVALID_COMMAND),
        (6, Reason.UNKNOWN_TOPIC),
        (7, Reason.BAD_JSON),
    ]
    assert work.dropped == {"silence": 1}
    assert len(records) == len(work.rows) + len(work.effects) + len(work.rejected) + sum(work.dropped.values())
    assert sum(work.kinds.values()) == len(records)
    assert work.kinds[Kind.TELEMETRY] == 2


def test_what_changed_is_written_once() -> None:
    """A replay within an epoch changes no state, and none is written again; nor is the row of an open alert."""
    subject = Subject(HOT)
    records = [telemetry(n, temperature=90) for n in range(3)]
    first, again = subject(*records), subject(*records[:2])
    assert b"u/d" in first.states
    assert [effect.statement for effect in first.alert_effects].count(Statement.UPSERT_ACTIVE_ALERT) == 1
    assert (again.states, again.alert_effects, again.events) == ({}, [], [])


def test_an_alert_fires_once_and_resolves_once() -> None:
    work = Subject(HOT)(*(telemetry(n, temperature=t) for n, t in enumerate([20, 90, 95, 20, 20])))
    assert [str(event.status) for event in work.events] == ["FIRING", "RESOLVED"]
    assert [key for key, _ in work.alerts] == [b"u/d"] * 2
    assert [msgspec.json.decode(value)["status"] for _, value in work.alerts] == ["FIRING", "RESOLVED"]
    assert work.oldest == START.timestamp()


def test_an_alert_carries_the_trace_of_its_record() -> None:
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    work = Subject(HOT)(telemetry(0, temperature=90, headers=[("traceparent", parent)]), telemetry(1, temperature=20))
    assert [event.traceparent for event in work.events] == [parent.decode(), msgspec.UNSET]


def test_one_state_a_device_and_the_mark_after_them() -> None:
    work = Subject(HOT)(*(telemetry(n, "a" if n % 2 else "b", temperature=90) for n in range(10)))
    assert set(work.states) == {b"u/a", b"u/b", MARK_KEY}
    assert list(work.states)[-1] == MARK_KEY
    assert work.states[MARK_KEY] == b"9"
    assert [decode(work.states[key]).applied_offset for key in (b"u/a", b"u/b")] == [9, 8]


def test_devices_without_rules_have_no_state() -> None:
    subject = Subject()
    assert set(subject(telemetry(0, temperature=90)).states) == {MARK_KEY}
    assert subject(telemetry(1, temperature=90)).states == {}
    assert subject.processor.devices == 1


def test_a_mark_alone_is_written_now_and_then() -> None:
    subject = Subject()
    assert subject(telemetry(0)).states == {MARK_KEY: b"0"}
    assert subject(telemetry(1), now=NOW + MARK_SECONDS - 1).states == {}
    assert subject(telemetry(2), now=NOW + MARK_SECONDS).states == {MARK_KEY: b"2"}


def test_state_is_loaded_once_an_epoch() -> None:
    subject = Subject(HOT)
    for offset in range(3):
        subject(telemetry(offset, temperature=90))
    assert subject.loads == [(0, LOG_KEY), (0, MARK_KEY), (0, b"u/d")]
    work = subject(telemetry(3, temperature=20), epoch=2)
    assert subject.loads == [(0, LOG_KEY), (0, MARK_KEY), (0, b"u/d")] * 2
    assert [str(event.status) for event in work.events] == ["RESOLVED"]


def test_a_device_leaves_memory_when_its_state_is_stored_and_no_sooner() -> None:
    stored: dict[bytes, bytes] = {}
    book = RuleBook(DEFAULT)
    book.apply([("u", msgspec.json.encode([HOT]).decode())])
    processor = Processor(DecodeLimits(), DEFAULT, book, lambda partition, key: stored.get(key), in_memory=1)
    batches = [
        Given([telemetry(0, "a", temperature=90)]),
        Given([telemetry(1, "b", temperature=20)]),
        Given([telemetry(2, "a", temperature=20), telemetry(3, "a", temperature=90)]),
    ]
    works = [processor(batch, NOW) for batch in batches]
    reported = [(event.status, event.alert_id) for work in works for event in work.events]
    assert [status for status, _ in reported] == ["FIRING", "RESOLVED", "FIRING"]
    assert reported[0][1] == reported[1][1]
    for batch, work, left in zip(batches, works, [2, 1, 1], strict=True):
        stored |= work.states
        processor.closed(batch)
        assert processor.devices == left
    (again,) = processor(Given([telemetry(4, "b", temperature=90)]), NOW).events
    (over,) = processor(Given([telemetry(5, "a", temperature=20)]), NOW).events
    assert (again.device_id, again.status) == ("b", "FIRING")
    assert (over.status, over.alert_id) == ("RESOLVED", reported[2][1])


def test_what_is_closed_of_an_epoch_that_is_over_means_nothing() -> None:
    processor = Processor(DecodeLimits(), DEFAULT, RuleBook(DEFAULT), lambda partition, key: None, in_memory=1)
    old, new = Given([telemetry(9)]), Given([telemetry(0)], epoch=2)
    processor(old, NOW)
    processor(new, NOW)
    processor.closed(old)
    assert processor.partitions.partition(2, 0).closed == -1
    processor.closed(new)
    assert processor.partitions.partition(2, 0).closed == 1


def test_a_batch_that_goes_on_after_its_epoch_keeps_nothing_in_memory() -> None:
    book = RuleBook(DEFAULT)
    book.apply([("u", msgspec.json.encode([HOT]).decode())])
    processor = Processor(DecodeLimits(), DEFAULT, book, lambda partition, key: None)
    steps = processor.run_sliced(Given([telemetry(n, f"d{n}") for n in range(SLICE + 10)]), NOW)
    next(steps)
    assert processor.devices == SLICE
    processor.partitions.partition(2, 0)
    assert processor.devices == 0
    assert list(steps) == []
    assert processor.devices == 0


def test_what_is_kept_of_an_epoch_is_freed_with_it() -> None:
    def devices() -> int:
        return sum(isinstance(one, CachedDevice) for one in gc.get_objects())

    processor = Processor(DecodeLimits(), DEFAULT, RuleBook(DEFAULT), lambda partition, key: None)
    gc.collect()
    gc.disable()
    try:
        before = devices()
        processor(Given([telemetry(n, f"d{n}") for n in range(20)]), NOW)
        assert devices() == before + 20
        processor(Given([telemetry(0)], epoch=2), NOW)
        assert devices() == before + 1
    finally:
        gc.enable()


def test_a_new_epoch_starts_from_what_was_stored() -> None:
    subject = Subject(HOT)
    lost = subject.processor(Given([telemetry(0, temperature=90)]), NOW)  # not stored
    again = subject(telemetry(0, temperature=90), epoch=2)
    assert [event.alert_id for event in lost.events] == [event.alert_id for event in again.events]


def test_a_replay_stores_and_tells_nobody() -> None:
    records = [telemetry(n, temperature=t) for n, t in enumerate([90, 20, 90])]
    subject = Subject(HOT)
    assert len(subject(*records).events) == 3
    again = subject(*records, epoch=2)
    assert (len(again.rows), again.events, again.states) == (3, [], {})


def test_rules_that_come_later_do_not_alert_on_history() -> None:
    records = [telemetry(n, temperature=90) for n in range(3)]
    subject = Subject()
    subject(*records)
    subject.rules(HOT)
    assert subject(*records, epoch=2).events == []
    assert [str(event.status) for event in subject(telemetry(3, temperature=90), epoch=2).events] == ["FIRING"]


def test_changed_rules_are_followed_within_an_epoch() -> None:
    subject = Subject(HOT)
    assert len(subject(telemetry(0, temperature=90)).events) == 1
    subject.rules(rule("temperature", ">", 95))
    assert [str(event.status) for event in subject(telemetry(1, temperature=90)).events] == ["RESOLVED"]
    subject.rules(rule("battery", "<", 10))
    assert [event.rule_id for event in subject(telemetry(2, battery=5)).events] == ["battery"]


def test_partitions_do_not_mix() -> None:
    subject = Subject(HOT)
    first = subject(telemetry(0, temperature=90), partition=0)
    second = subject(telemetry(0, temperature=90), partition=1)
    assert len(first.events) == len(second.events) == 1
    assert {partition for partition, _ in subject.loads} == {0, 1}


@pytest.mark.parametrize("count", [1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE])
def test_slices_and_one_go_are_the_same(count: int) -> None:
    records = [telemetry(n, temperature=90 if n else 20) for n in range(count)]
    whole = Subject(HOT).processor(Given(records), NOW)
    steps, pauses = Subject(HOT).processor.run_sliced(Given(records), NOW), 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            sliced = done.value
            break
        pauses += 1
    assert sliced == whole
    assert pauses == max(0, count - 1) // SLICE


def test_readings_pause_by_their_alerts_as_well() -> None:
    many = [rule("temperature", id=f"r{n}") for n in range(50)]
    records = [telemetry(n, temperature=20 if n % 2 else 90) for n in range(100)]
    whole = Subject(*many).processor(Given(records), NOW)
    steps, pauses = Subject(*many).processor.run_sliced(Given(records), NOW), 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            sliced = done.value
            break
        pauses += 1
    assert sliced == whole
    assert len(whole.events) == 100 * 50
    assert pauses == (99 * 50) // SLICE


def test_configs_pause_by_their_size_as_well() -> None:
    rules = msgspec.json.encode([rule("temperature", message="x" * 900, id=f"r{n}") for n in range(60)])
    records = [other("users/u/config", rules, n) for n in range(50)]
    pauses = sum(1 for _ in Subject().processor.run_sliced(Given(records), NOW))
    assert pauses == sum(1 + len(one.value or b"") // OTHER_BYTES for one in records[:-1]) // SLICE > 5


def test_what_others_edit_compiles_nothing_of_a_device() -> None:
    subject = Subject(HOT)
    subject(telemetry(0, temperature=20))
    before = subject.device("d").watch
    assert subject.book.apply([("other", msgspec.json.encode([HOT]).decode()), ("third", None)]) == []
    assert len(subject(telemetry(1, temperature=90)).events) == 1
    assert subject.device("d").watch is before
    subject.rules(HOT)  # the same anew
    subject(telemetry(2, temperature=90))
    assert subject.device("d").watch is not before


def test_refusals_go_back_to_their_records_in_offset_order() -> None:
    subject = Subject()
    work = subject(telemetry(0), other("iot/n/status", b"on", 1), telemetry(2), other("iot/n/status", b"off", 3))
    found = work.refusals(((1, "row words"),), ((0, "effect words"),))
    assert [(one.record.offset, one.detail) for one in found] == [(1, "effect words"), (2, "row words")]
    assert {(one.reason, one.stage) for one in found} == {(Reason.REFUSED_BY_DATABASE, Stage.STORE)}


def test_devices_with_large_states_count_for_more_in_memory() -> None:
    """Or whoever invents devices, and asks for windows of each, fills it."""
    subject = Subject()
    averages = [{"key": f"k{n}", "seconds": 60} for n in range(20)]
    config = {"rules": [HOT], "sampling": {"averages": averages}}
    assert subject.book.apply([("u", msgspec.json.encode(config).decode())]) == []
    processor = Processor(DecodeLimits(), DEFAULT, subject.book, subject._load, in_memory=100)
    fields = {f"k{n}": n for n in range(20)}
    for n in range(0, 500, 50):
        given = Given([telemetry(m, f"d{m}", **fields) for m in range(n, n + 50)])
        work = processor(given, NOW)
        subject.states |= {(0, key): value for key, value in work.states.items()}
        processor.closed(given)
    size = len(subject.states[0, b"u/d0"])
    assert size > WEIGHS_ONE
    assert processor.devices <= 100 // (1 + size // WEIGHS_ONE)
    assert len(subject.states) >= 500  # none is lost
