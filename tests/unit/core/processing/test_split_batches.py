"""A batch whose alerts fill too much memory ends early; its parts ask for what the whole would ask for, in order."""

from collections.abc import Generator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.model.records import Kind
from app.core.processing.processor import SLICE, Processor
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.fakes import FakeStore
from tests.unit.core.processing.test_processor import HOT, NOW, Given, Subject, other, telemetry
from tests.unit.readings import rule
from tests.unit.records import Message

LISTS = (
    "rows", "sources", "effects", "effect_sources", "commands", "again", "rejected", "events", "alerts",
    "alert_records", "answers", "forwards", "annotated",
)  # fmt: skip
SEVERAL = [rule("temperature", id=f"r{n}", threshold=50 + 10 * n) for n in range(5)] + [rule("battery", "<", 10)]
TRACED = (("ingest_ms", b"%d" % int(NOW * 1000)), ("traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"))
COMMAND = {"device_id": "a", "rule_id": "r0", "way": "users"}
THINGS = st.lists(
    st.one_of(
        st.tuples(st.just("reading"), st.sampled_from("abc"), st.sampled_from([20, 55, 75, 95, 20, 95])),
        st.tuples(st.just("reading"), st.sampled_from("abc"), st.sampled_from([20, 95])),
        st.tuples(st.just("command"), st.sampled_from(["ACK", "DISABLE", "ENABLE", "?"])),
        st.sampled_from([("traced",), ("bad",), ("status",), ("config",), ("silence",)]),
    ),
    min_size=1,
    max_size=40,
)


def record(offset: int, what: str, *given: Any) -> Message:
    if what == "reading":
        return telemetry(offset, given[0], temperature=given[1], battery=given[1] // 5)
    if what == "traced":
        return telemetry(offset, "c", (("kind", b"telemetry"), *TRACED), temperature=85)
    if what == "command":
        return other("users/u/alerts/manage", msgspec.json.encode(COMMAND | {"action": given[0]}), offset)
    if what == "silence":
        return Message(b"", (("kind", b"silence"),), b"u/a", offset=offset)
    topic, payload = {
        "bad": ("users/u/devices/b/telemetry", b"{"),
        "status": ("iot/n1/status", b"online"),
        "config": ("users/v/config", b"[]"),
    }[what]
    return other(topic, payload, offset)


def parts_of(
    records: Sequence[Message], most: float, rules: Sequence[dict[str, object]], *, crash_at: int = -1
) -> Generator[BatchOutput, None, None]:
    """The outputs of the parts; before the part `crash_at` a new worker begins with what is stored."""
    book, states = RuleBook(DEFAULT), dict[bytes, bytes]()
    assert book.apply([("u", msgspec.json.encode(rules).decode())]) == []

    def made() -> Processor:
        return Processor(DecodeLimits(), DEFAULT, book, lambda _, key: states.get(key), output_max=most)

    processor, number = made(), 0
    while records:
        if number == crash_at:
            processor = made()
        work = processor(Given(records), NOW)
        done = len(records) - work.left_over
        assert done > 0
        states |= work.states
        processor.closed(Given(records[:done]))
        yield work
        records, number = records[done:], number + 1


def together(parts: Sequence[BatchOutput]) -> dict[str, Any]:
    """What all parts ask for, as far as one batch may not write less of it because it writes it once."""
    found: dict[str, Any] = {name: [one for part in parts for one in getattr(part, name)] for name in LISTS}
    tables = FakeStore()
    for part in parts:
        assert tables._apply(part.effects + part.alert_effects) == ()
    for name in "kinds", "dropped":
        counts: dict[str, int] = {}
        for part in parts:
            for key, number in getattr(part, name).items():
                counts[key] = counts.get(key, 0) + number
        found[name] = counts
    states = {key: value for part in parts for key, value in part.states.items() if not key.startswith(b"\0")}
    again = sum(part.commands_again for part in parts)
    return found | {
        "again": again,
        "states": states,
        "active": tables.active_alerts,
        "history": tables.history,
        "muted": tables.muted,
    }


@given(things=THINGS, most=st.sampled_from([1, 1, 2000, 5000, 20_000]), crash_at=st.integers(-1, 5))
def test_the_parts_ask_for_what_the_whole_asks_for(things: list[tuple[Any, ...]], most: int, crash_at: int) -> None:
    records = [record(offset, *thing) for offset, thing in enumerate(things)]
    (whole,) = parts_of(records, float("inf"), SEVERAL)
    parts = list(parts_of(records, most, SEVERAL, crash_at=crash_at))
    assert together(parts) == together([whole])
    assert sum(part.left_over == 0 for part in parts) == 1
    assert parts[-1].left_over == 0
    assert all(part.weight >= most for part in parts[:-1])


@pytest.mark.parametrize("quiet", [0, 1, SLICE - 1, SLICE, SLICE + 1])
def test_a_batch_ends_behind_the_record_that_makes_it_too_large(quiet: int) -> None:
    records = [telemetry(n, temperature=20) for n in range(quiet)]
    records += [telemetry(quiet, temperature=95), telemetry(quiet + 1, temperature=95)]
    first, second = parts_of(records, 1, [HOT])
    assert (len(first.rows), first.left_over, first.kinds) == (quiet + 1, 1, {Kind.TELEMETRY: quiet + 1})
    assert (len(second.rows), second.events) == (1, [])


def test_a_flood_of_alerts_fills_no_more_than_one_record_does_beyond_the_limit() -> None:
    """200 rules, each of which every reading opens or closes."""
    many = [rule("temperature", id=f"r{n}", message="x" * 900) for n in range(200)]
    records = [telemetry(n, f"d{n % 4}", temperature=20 if n // 4 % 2 else 95) for n in range(100)]
    most = 4 << 20
    parts = list(parts_of(records, most, many))
    assert sum(len(part.events) for part in parts) == 100 * 200
    assert len(parts) > 20
    one = parts[0].weight / (len(parts[0].rows))
    assert max(part.weight for part in parts) < most + 2 * one


def test_an_open_alert_that_no_reading_changes_ends_no_batch() -> None:
    subject = Subject(HOT)
    subject.processor._output_max = 1
    assert subject(telemetry(0, temperature=95)).left_over == 0
    assert subject(*(telemetry(n, temperature=95) for n in range(1, 3 * SLICE))).left_over == 0


def test_large_states_end_a_batch_too() -> None:
    """Each reading writes the state of its device: 200 open alerts of each of many devices are many megabytes."""
    many = [rule("temperature", id=f"r{n}", message="x" * 900) for n in range(200)]
    subject = Subject(*many)
    subject(*(telemetry(n, f"d{n}", temperature=95) for n in range(50)))
    size = max(map(len, subject.states.values()))
    subject.processor._output_max = 10 * size
    work = subject(*(telemetry(50 + n, f"d{n}", temperature=96) for n in range(50)))
    assert work.events == []
    assert 35 <= work.left_over <= 41
