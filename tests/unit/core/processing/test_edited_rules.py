"""An edit of rules reaches the devices that a worker has in memory, of users/* and of iot/* alike."""

import msgspec
import pytest

from app.core.decode.decoder import DecodeLimits
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.presence_world import Given
from tests.unit.readings import rule
from tests.unit.records import NOW_MS, Message

WAYS = {b"users/n/devices/s/telemetry": b"n/s", b"iot/n/s/telemetry": b"n"}


class World:
    """One worker, and one device that sends a value a second."""

    def __init__(self, topic: bytes) -> None:
        self.topic, self.offset, self.book = topic, 0, RuleBook(DEFAULT)
        classes = DeviceClasses((), PresenceLimits(5.0))
        self.processor = Processor(DecodeLimits(), DEFAULT, self.book, lambda *_: None, classes)

    def edit(self, user: str, *rules: dict[str, object]) -> None:
        assert not self.book.apply([(user, msgspec.json.encode(rules).decode())])

    def value(self, value: float) -> list[str]:
        at = NOW_MS + self.offset * 1000
        payload = msgspec.json.encode({"value": value, "timestamp": at / 1000, "sequence_id": self.offset})
        headers = (("mqtt_topic", self.topic), ("kind", b"x"), ("ingest_ms", b"%d" % at))
        record = Message(payload, headers, WAYS[self.topic], at, self.offset)
        self.offset += 1
        work = self.processor(Given([record], self.offset, 0), at / 1000)  # type: ignore[arg-type]
        assert not work.rejected
        return [f"{event.rule_id} {event.status} {event.cause or ''}".strip() for event in work.events]


@pytest.mark.parametrize("topic", WAYS)
def test_a_device_in_memory_follows_an_edit(topic: bytes) -> None:
    world = World(topic)
    world.edit("n", rule("value"))
    assert world.value(90) == ["value FIRING"]
    world.edit("n", rule("value", threshold=70))
    assert world.value(75) == ["value RESOLVED rule_changed", "value FIRING"]
    world.edit("somebody-else", rule("value"))
    assert world.value(20) == ["value RESOLVED"]
    assert world.value(75) == ["value FIRING"]
