"""What a record must have become is what a worker makes of it: the judge against the processor, record by record."""

from typing import Any

import pytest

from app.core.decode.decoder import DecodeLimits
from app.core.model.records import Kind, Reading, Rejected
from app.core.processing.expected_outcome import (
    CarriedOut,
    DroppedByPolicy,
    ExpectedOutcome,
    OutcomeJudge,
    named_user,
)
from tests import DEFAULT
from tests.fuzzing import broken
from tests.unit.core.decode.test_decode_cases import CASES, record_of
from tests.unit.core.processing.test_processor import Subject
from tests.unit.records import GOOD, NOW, NOW_MS, TOPIC, Message

RETAINED = ("retained", b"1")


def judged(record: Message, limits: DecodeLimits | None = None) -> ExpectedOutcome:
    return OutcomeJudge(limits or DecodeLimits(), DEFAULT).judge(record, NOW_MS)


def made(record: Message) -> Any:
    """What a worker makes of a record: its row, its reason, its policy, or the number of its effects."""
    work = Subject()(record, now=NOW.timestamp())
    dropped = list(work.dropped)
    return work.rows or [one.reason for one in work.rejected] or dropped or len(work.effects)


def as_made(found: ExpectedOutcome) -> Any:
    match found:
        case Rejected(reason=reason):
            return [reason]
        case DroppedByPolicy(policy=policy):
            return [policy]
        case CarriedOut():
            return 1
        case _:
            return [DEFAULT.row(found)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['file']}: {case['name']}")
def test_every_golden_case_is_judged_as_a_worker_judges_it(case: dict[str, Any]) -> None:
    if "payload_max_bytes" not in case:
        record = record_of(case)
        assert as_made(judged(record)) == made(record)


def control(topic: str, value: bytes | None, *headers: tuple[str, bytes]) -> Message:
    return Message(value, (("mqtt_topic", topic.encode()), *headers), b"u1")


@pytest.mark.parametrize(
    "record",
    [
        control(TOPIC, b""),
        control(TOPIC, None),
        control(TOPIC, b"{}", RETAINED),
        control("iot/n/s/telemetry", b'{"value":1}'),
        control("iot/n/s/telemetry", b'{"value":1}', RETAINED),
        control("iot/n/s/telemetry", b'{"value":1,"time":"2026-11-21T02:00:00Z"}', RETAINED),
        control("iot/n/status", b"online"),
        control("iot/n/status", b""),
        control("iot/n/status", b"{"),
        control("users/u1/config", b"[]"),
        control("users/u1/config", b"{"),
        control("users/u1/alerts/manage", b"{}"),
        control("users/u1/alerts/manage", b"{}", RETAINED),
        control("users/u1/else", b"{}"),
        control("users/u1/else", b""),
        Message(b"", (("kind", b"silence"),)),
        Message(b"{}", (("kind", b"strange"),)),
        Message(b"{}", (("kind", b"unknown"),)),
        Message(None, ()),
    ],
)
def test_records_of_every_kind_are_judged_as_a_worker_judges_them(record: Message) -> None:
    assert as_made(judged(record)) == made(record)


def test_broken_payloads_are_judged_as_a_worker_judges_them() -> None:
    tokens = [b'"', b"{", b"}", b",", b":", b"null", b"1e999", b"NaN", b"\\u0000", b"\xff", b'"time"', b'"timestamp"']
    judge, subject = OutcomeJudge(DecodeLimits(), DEFAULT), Subject()
    for number, payload in enumerate(broken([GOOD, b'{"value":1}'], tokens, 1_000, seed=15)):
        topic = TOPIC if number % 2 else "iot/n/s/telemetry"
        record = Message(payload, (("mqtt_topic", topic.encode()),), b"u1/d1", NOW_MS, number)
        work = subject(record, now=NOW.timestamp())
        wanted: Any = work.rows or [one.reason for one in work.rejected] or list(work.dropped)
        assert as_made(judge.judge(record, NOW_MS)) == wanted, payload


def test_a_command_that_hangs_on_the_state_of_a_device_is_carried_out() -> None:
    command = b'{"device_id":"d1","rule_id":"r","action":"DISABLE"}'
    assert judged(control("users/u1/alerts/manage", command)) == CarriedOut(Kind.ALERTS_MANAGE)


def test_a_record_is_of_the_user_of_its_reading_else_of_its_topic_else_of_its_key() -> None:
    bare = Message(Message().value, ())
    assert isinstance(judged(bare), Reading)
    for record, user in (
        (bare, "u1"),
        (control("users/u2/devices/d/telemetry", b"{"), "u2"),
        (control("iot/n/status", b"{"), "n"),
        (Message(b"{", (), b"u3/d"), "u3"),
        (Message(b"{", (), b"node"), ""),
        (control("nowhere", b"{"), ""),
    ):
        assert named_user(record, judged(record)) == user
