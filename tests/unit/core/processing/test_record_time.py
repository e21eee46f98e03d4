"""A record's time through the whole core: no value of it stops a worker or begins 1970; a replay changes nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.model.inactivity_claim import HEADERS, InactivityClaim, to_record
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits as PresenceLimits
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.presence_world import Given
from tests.unit.readings import rule
from tests.unit.records import NOW, NOW_MS, Message

Header = tuple[str, bytes]
STAMPS = [-1, 0, 1, NOW_MS // 1000, NOW_MS, NOW_MS * 1000, NOW_MS * 10**6, 2**63 - 1, -(2**63)]
HOT = [rule("temperature", ">", 80, no_data_seconds=5)]
SNOOZE = {"device_id": "d", "rule_id": "temperature", "action": "SNOOZE", "duration_minutes": 5}


def log(more: Sequence[Header], timestamp: int) -> list[Message]:
    """A record of each kind there is, with these headers and this timestamp."""
    claims = [
        InactivityClaim(what, "u", "d", up_to=9, rule_ids=("temperature",)) for what in ("no_data", "offline", "mass")
    ]
    hot = msgspec.json.encode({"time": NOW, "sequence_id": 1, "temperature": 90})
    reported = [
        ("users/u/devices/d/telemetry", hot, b"u/d"),
        ("iot/n/s/telemetry", b'{"value": 1}', b"n"),
        ("iot/n/status", b"online", b"n"),
        ("iot/n/status", b"offline", b"n"),
        ("users/u/config", msgspec.json.encode(HOT), b"u"),
        ("users/u/alerts/manage", msgspec.json.encode(SNOOZE), b"u/d"),
        ("users/u/alerts/manage", b"{}", b"u"),
        ("nowhere", b"", b""),
    ]
    records = [(value, [("mqtt_topic", topic.encode()), *more], key) for topic, value, key in reported]
    records += [(value, [*HEADERS, *more], key) for key, value in map(to_record, claims)]
    return [Message(value, headers, key, timestamp, offset) for offset, (value, headers, key) in enumerate(records)]


def worked(records: Sequence[Message], now: float) -> BatchOutput:
    book = RuleBook(DEFAULT)
    assert not book.apply([("u", msgspec.json.encode(HOT).decode())])
    classes = DeviceClasses((), PresenceLimits(5.0))
    processor = Processor(DecodeLimits(), DEFAULT, book, lambda *_: None, classes)
    return processor(Given(records, records[-1].offset + 1, 0), now)  # type: ignore[arg-type]


@pytest.mark.parametrize("timestamp", STAMPS)
@pytest.mark.parametrize("header", [None, *STAMPS])
def test_any_time_of_a_record(header: int | None, timestamp: int) -> None:
    more = [] if header is None else [("kind", b"x"), ("ingest_ms", b"%d" % header)]
    work = worked(log(more, timestamp), NOW.timestamp())
    plausible = NOW_MS in (header, timestamp)
    assert len(work.rows) == (2 if plausible else 1)  # the sensor sends no time
    assert {event.rule_id for event in work.events} == {"temperature", "$offline", "$mass-offline"}
    times = [event.event_time for event in work.events] + [event.first_seen for event in work.events]
    times += [arg for effect in work.effects + work.alert_effects for arg in effect.args if isinstance(arg, datetime)]
    assert all(abs(time - NOW) < timedelta(minutes=6) for time in times), times
    assert [msgspec.json.decode(one.value)["received"] for one in work.answers] == ["2026-11-21T03:00:00Z"]


@pytest.mark.parametrize("days", [0, 1, 89, 91, 1000])
def test_a_replay_has_the_outcome_of_the_first_time(days: int) -> None:
    """Rows that are older than the limit by now are rows; what was refused for its time is refused."""

    def reading(offset: int, seconds: float, header: bool) -> Message:
        body = {"time": NOW + timedelta(seconds=seconds), "sequence_id": offset, "temperature": 90}
        headers = [("mqtt_topic", b"users/u/devices/d%d/telemetry" % offset)]
        came = [("kind", b"telemetry"), ("ingest_ms", b"%d" % NOW_MS)] if header else []
        # A replay bears another timestamp, and the header of the first time.
        stamp = NOW_MS + days * 86_400_000 if header else NOW_MS
        return Message(msgspec.json.encode(body), [*headers, *came], b"", stamp, offset)

    seconds = [0.0, 299.0, 301.0, -89 * 86400.0, -91 * 86400.0, 10.0]
    for header in (True, False):
        records = [reading(offset, second, header) for offset, second in enumerate(seconds)]
        first, later = (worked(records, (NOW + timedelta(days=gone)).timestamp()) for gone in (0, days))
        assert first.rows == later.rows
        assert [row[3] for row in later.rows] == [0, 1, 3, 5]
        assert [(one.record.offset, str(one.reason)) for one in later.rejected] == [
            (2, "time_in_future"),
            (4, "time_too_old"),
        ]
        assert [one.detail for one in first.rejected] == [one.detail for one in later.rejected]
        assert [msgspec.structs.asdict(one) for one in first.events] == [
            msgspec.structs.asdict(one) for one in later.events
        ]
        assert later.events[-1].event_time == NOW + timedelta(seconds=1)  # not ahead of its arrival
    assert datetime.fromtimestamp(NOW_MS / 1000, UTC) == NOW
