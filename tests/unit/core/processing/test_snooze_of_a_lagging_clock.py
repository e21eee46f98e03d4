"""A snooze begins and ends by the time of arrival, whatever the clock of its device says; the tables agree."""

from collections.abc import Mapping

import msgspec
import pytest

from app.core.batch.effects import Effect, Statement
from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.presence_world import Given
from tests.unit.readings import rule
from tests.unit.records import NOW, NOW_MS, Message

SNOOZE = {"device_id": "d", "rule_id": "temperature", "action": "SNOOZE", "duration_minutes": 10}
COV = {"cov": [{"keys": {"temperature": {"absolute": 0.5}}, "heartbeat_seconds": 300}]}


class World:
    """One device, whose clock is behind by `lag` seconds; the worker starts anew before each record."""

    def __init__(self, lag: float, document: object) -> None:
        self.lag, self.states, self.offset = lag, dict[bytes, bytes](), 0
        self.book = RuleBook(DEFAULT)
        assert not self.book.apply([("u", msgspec.json.encode(document).decode())])

    def send(self, minute: float, topic: str, payload: Mapping[str, object]) -> BatchOutput:
        at = NOW_MS + round(minute * 60_000)
        headers = (("mqtt_topic", topic.encode()), ("kind", b"x"), ("ingest_ms", b"%d" % at))
        record = Message(msgspec.json.encode(payload), headers, b"u/d", at, self.offset)
        self.offset += 1
        classes = DeviceClasses((), PresenceLimits(5.0))
        load = self.states.get
        processor = Processor(DecodeLimits(), DEFAULT, self.book, lambda _, key: load(key), classes, set_back_after=5)
        work = processor(Given([record], self.offset, 0), at / 1000)  # type: ignore[arg-type]
        assert not work.rejected
        self.states |= work.states
        return work

    def reading(self, minute: float, temperature: float) -> list[str]:
        time = NOW.timestamp() + minute * 60 - self.lag
        payload = {"timestamp": time, "sequence_id": self.offset, "temperature": temperature}
        self.work = self.send(minute, "users/u/devices/d/telemetry", payload)
        return [f"{event.status} {event.cause or ''}".strip() for event in self.work.events]

    def rows(self) -> list[tuple[str, bool]]:
        """State, and whether a snooze is shown, of each row of active_alerts that the last reading writes."""
        written: list[Effect] = [
            one for one in self.work.alert_effects if one.statement is Statement.UPSERT_ACTIVE_ALERT
        ]
        return [(one.args[10], one.args[11] is not None) for one in written]


@pytest.mark.parametrize("sampling", [{}, COV])
@pytest.mark.parametrize("lag", [0, 1, 3600, -0.5])
def test_it_ends_when_it_should(lag: float, sampling: dict[str, object]) -> None:
    world = World(lag, {"rules": [rule()], "sampling": sampling})
    assert world.reading(0, 90) == ["FIRING"]
    world.send(1, "users/u/alerts/manage", SNOOZE)
    assert world.reading(10.9, 91) == []
    assert world.rows() == [("SNOOZED", True)]
    assert world.reading(11, 92) == ["FIRING unmuted"]
    assert world.rows() == [("FIRING", False)]
    assert world.reading(12, 93) == []


@pytest.mark.parametrize("lag", [0, 3600])
def test_an_alert_that_begins_while_its_rule_is_snoozed_fires_at_the_end(lag: float) -> None:
    world = World(lag, [rule()])
    assert world.reading(0, 20) == []
    world.send(1, "users/u/alerts/manage", SNOOZE)
    assert world.reading(5, 91) == []
    assert world.reading(11, 92) == ["FIRING"]
    assert world.rows() == [("FIRING", False)]


def test_a_clock_that_is_set_back_moves_no_snooze() -> None:
    """Its other durations move with the clock; the snooze ends when it was said to."""
    world = World(0, [rule()])
    assert world.reading(0, 90) == ["FIRING"]
    world.send(1, "users/u/alerts/manage", {**SNOOZE, "duration_minutes": 60})
    world.lag = 3600
    found = [world.reading(2 + number / 10, 90) for number in range(8)]
    assert found == [[]] * 8
    assert world.rows() == [("SNOOZED", True)]  # so the readings count again
    assert world.reading(60.9, 91) == []
    assert world.reading(61, 92) == ["FIRING unmuted"]
    assert world.rows() == [("FIRING", False)]
