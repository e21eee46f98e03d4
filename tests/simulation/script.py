"""What the devices send in one schedule, and what must become of each message: the reference model.

The model shares no code with the app. It knows the promise: a reading older than the newest one moves nothing, an
episode opens when its condition holds and closes when it does not, each tells once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.simulation.kafka import LogRecord
from tests.simulation.world import EPOCH

START = datetime.fromtimestamp(EPOCH, UTC) - timedelta(hours=1)
RULES = json.dumps(
    [
        {"key": "temperature", "operator": ">", "threshold": 80, "clear_threshold": 60, "message": "hot"},
        {"key": "battery", "operator": "<", "threshold": 10, "message": "low"},
    ]
)
EDITED_RULES = json.dumps([{"key": "temperature", "operator": ">", "threshold": 70, "message": "warm"}])
TEMPERATURES, BATTERIES = (20, 55, 70, 90, 95), (5, 50, None, None)

Event = tuple[str, str, str, str, str, float]  # device, rule, status, first_seen, event_time, value


@dataclass
class Message:
    """A message and what must become of it."""

    record: LogRecord
    fate: str  # row, effect, dropped, or the reason of its dead letter
    key: Any = None  # of its row
    mark: bytes = b""  # of its MQTT delivery; a redelivery of a dead letter is none
    redelivered: bool = False
    events: tuple[Event, ...] = ()  # the alerts it causes


@dataclass
class Model:
    """What is known of one device."""

    latest: int = -1
    since: dict[str, tuple[str, float]] = field(default_factory=dict)

    def step(self, device: str, second: int, temperature: float | None, battery: int | None) -> tuple[Event, ...]:
        """The alerts that a reading causes."""
        if second < self.latest:
            return ()
        self.latest = second
        now, found = _time(second), []
        for rule, value, starts, stays in (
            ("temperature", temperature, temperature is not None and temperature > 80, (temperature or 0) > 60),
            ("battery", battery, battery is not None and battery < 10, battery is not None and battery < 10),
        ):
            if value is None:
                continue
            if rule not in self.since and starts:
                self.since[rule] = (now, value)
                found.append((device, rule, "FIRING", now, now, float(value)))
            elif rule in self.since and not stays:
                found.append((device, rule, "RESOLVED", self.since.pop(rule)[0], now, float(value)))
        return tuple(found)


class Script:
    """The messages of each partition, in log order. Each partition has a user and two devices of its own."""

    def __init__(self, random: Random, partitions: int, length: int, *, edits: bool = False) -> None:
        self.edits = edits
        self.messages: list[list[Message]] = []
        for partition in range(partitions):
            self._partition(random, partition, length)
        self.rules = {f"u{partition}": RULES for partition in range(partitions)}

    def _partition(self, random: Random, partition: int, length: int) -> None:
        models: dict[str, Model] = {}
        messages: list[Message] = []
        self.messages.append(messages)
        for second in range(length):
            device = f"d{int(random.random() * 2)}"
            messages.append(self._message(random, partition, device, second, models.setdefault(device, Model())))
            if random.random() < 0.12:
                again = messages[int(random.random() * len(messages))]
                if not again.redelivered and again.fate != "effect":
                    messages.append(_redelivered(again, models))

    def _message(self, random: Random, partition: int, device: str, second: int, model: Model) -> Message:
        user, drawn = f"u{partition}", random.random()
        if drawn < 0.06:
            return _message(user, f"iot/{user}/status", b"online", "effect", second)
        if drawn < 0.09:
            return _silence(user, device)
        if drawn < 0.12 and self.edits:
            return _message(user, f"users/{user}/config", EDITED_RULES.encode(), "effect", second)
        topic = f"users/{user}/devices/{device}/telemetry"
        if drawn < 0.22:
            return _message(user, topic, b"{broken %d" % second, "bad_json", second, device)
        late = second - 5 if drawn < 0.32 and second > 5 else second
        temperature = TEMPERATURES[int(random.random() * 5)]
        battery = BATTERIES[int(random.random() * 4)]
        body: dict[str, Any] = {"time": _time(late), "sequence_id": second, "temperature": temperature}
        if battery is not None:
            body["battery"] = battery
        poison = 0.32 <= drawn < 0.38
        if poison:
            body["poison"] = True
        fate = "refused_by_database" if poison else "row"
        message = _message(user, topic, json.dumps(body).encode(), fate, second, device)
        message.key = (START + timedelta(seconds=late), user, device, second)
        message.events = model.step(f"{user}/{device}", late, temperature, battery)
        return message


def _redelivered(one: Message, models: dict[str, Model]) -> Message:
    """The same message again at a new offset. Its reading is stepped again too, which is what the model must say."""
    record = LogRecord(0, one.record.key, one.record.value, (*one.record.headers, ("mqtt_dup", b"1")))
    again = Message(record, one.fate, one.key, one.mark, redelivered=True)
    if one.key is not None:
        _, user, device, _ = one.key
        body = json.loads(one.record.value or b"{}")
        second = int((one.key[0] - START).total_seconds())
        again.events = models[device].step(f"{user}/{device}", second, body["temperature"], body.get("battery"))
    return again


def _message(user: str, topic: str, payload: bytes, fate: str, second: int, device: str = "") -> Message:
    mark = f"{topic}#{second}".encode()
    headers: Sequence[tuple[str, bytes]] = (("mqtt_topic", topic.encode()), ("mqtt_id", b"%d" % second))
    key = f"{user}/{device}" if device else user
    return Message(LogRecord(0, key.encode(), payload, headers), fate, mark=mark)


def _silence(user: str, device: str) -> Message:
    return Message(LogRecord(0, f"{user}/{device}".encode(), b"", (("kind", b"silence"),)), "dropped")


def _time(second: int) -> str:
    return (START + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")
