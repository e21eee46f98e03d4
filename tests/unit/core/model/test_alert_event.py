"""The alert event's JSON, its id and its key."""

from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from app.core.model.alert_event import AlertEvent, Cause, Severity, Status, alert_id, outbox_key, to_json

EVENT = AlertEvent(
    alert_id="ab12",
    user_id="u",
    device_id="d/ü",
    rule_id="engine.oil.temp",
    status=Status.FIRING,
    severity=Severity.CRITICAL,
    message='too "hot"',
    value=90.5,
    threshold=80,
    event_time=datetime(2025, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
    first_seen=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
)


def test_json_is_the_contract_byte_for_byte() -> None:
    assert to_json(EVENT).decode() == (
        '{"alert_id":"ab12","user_id":"u","device_id":"d/ü","rule_id":"engine.oil.temp","status":"FIRING",'
        '"severity":"critical","message":"too \\"hot\\"","value":90.5,"threshold":80,'
        '"event_time":"2025-01-02T03:04:05.678900Z","first_seen":"2025-01-02T03:04:05Z"}'
    )


def test_cause_and_traceparent_are_there_when_set() -> None:
    event = msgspec.structs.replace(EVENT, cause=Cause.RULE_CHANGED, traceparent="00-1-2-01")
    assert to_json(event).endswith(
        b'"first_seen":"2025-01-02T03:04:05Z","cause":"rule_changed","traceparent":"00-1-2-01"}'
    )


def test_values_keep_their_json_type() -> None:
    for value, text in (
        ("open", b'"value":"open"'),
        (True, b'"value":true'),
        (3, b'"value":3,'),
        (3.0, b'"value":3.0'),
    ):
        assert text in to_json(msgspec.structs.replace(EVENT, value=value))


def test_an_event_reads_back() -> None:
    assert msgspec.json.decode(to_json(EVENT), type=AlertEvent) == EVENT


def test_outbox_key_is_the_devices() -> None:
    assert outbox_key(EVENT) == "u/d/ü".encode()


def test_id_is_stable() -> None:
    """Ids live on in other people's tables: this value, `b2sum -l 128` of the JSON array, must never change."""
    assert alert_id("u", "d", "temperature", 1_735_689_600_000_000) == "e8b47c15e4be5bad46bd4eed26f813f0"


ids = st.tuples(st.text('ab",/', max_size=3), st.text('ab",/', max_size=3), st.text('ab",/', max_size=3))


@given(st.lists(st.tuples(ids, st.integers(0, 12), st.integers(0, 12)), unique=True, max_size=30))
def test_different_episodes_have_different_ids(episodes: list[tuple[tuple[str, str, str], int, int]]) -> None:
    made = {alert_id(*names, first_seen, nth) for names, first_seen, nth in episodes}
    assert len(made) == len(episodes)
    assert all(len(name) == 32 for name in made)
