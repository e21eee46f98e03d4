"""What the devices send in one schedule, and what is asked of their readings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.simulation.kafka import LogRecord
from tests.simulation.world import EPOCH

START = datetime.fromtimestamp(EPOCH, UTC) - timedelta(hours=1)
HOT = {"key": "temperature", "operator": ">", "threshold": 80, "clear_threshold": 60, "message": "hot"}
RULES = [HOT, {"key": "battery", "operator": "<", "threshold": 10, "message": "low"}]
STALE_AFTER = 4  # seconds
BAND, HEARTBEAT, WINDOW = 25, 4, 6
AVERAGED = {"key": f"avg(temperature,{WINDOW}s)", "operator": ">", "threshold": 75, "message": "warm for a while"}
SAMPLING = {
    "cov": [{"keys": {"temperature": {"absolute": BAND}}, "heartbeat_seconds": HEARTBEAT, "devices": ["d0"]}],
    "averages": [{"key": "temperature", "seconds": WINDOW}],
}
EDITED_RULES = json.dumps([{"key": "temperature", "operator": ">", "threshold": 70, "message": "warm"}])
SET_BACK_AFTER = 3
AHEAD, HISTORY = 3600 + 400, 600  # seconds: more than is taken (readings are an hour old); and older than any other
TEMPERATURES, BATTERIES = (20, 55, 70, 90, 95), (5, 50, None, None)

Event = tuple[str, str, str, str, str, float | str]  # device, rule, status, first_seen, event_time, value
Reading = tuple[str, int, int, int | None]  # device, second, temperature, battery


@dataclass
class Message:
    """A message and what must become of it; tests.simulation.oracle says the rest."""

    record: LogRecord
    fate: str  # row, left out (by change of value), effect, dropped, or the reason of its dead letter
    key: Any = None  # of its row
    mark: bytes = b""  # of its MQTT delivery; a redelivery of a dead letter is none
    redelivered: bool = False
    reading: Reading | None = None
    came: int | None = None  # second in which a gateway took it in, where one says so
    sign: str = ""  # the device, or node with a slash, of whose life it is a sign
    events: tuple[Event, ...] = ()  # the alerts it causes


class Script:
    """The messages of each partition, in log order. Each partition has a user and two devices of its own."""

    def __init__(
        self,
        random: Random,
        partitions: int,
        length: int,
        *,
        edits: bool = False,
        sampled: bool = False,
        watched: bool = False,
        clocks: bool = False,
    ) -> None:
        """`edits`: users change their rules; `sampled`: rows are left out, and averaged; `watched`: inactivity is
        reported; `clocks`: clocks of devices are set back, and are ahead; and devices send what they had stored.
        """
        self.edits, self.sampled, self.watched, self.clocks = edits, sampled, watched, clocks
        self.messages: list[list[Message]] = []
        for partition in range(partitions):
            self._partition(random, partition, length)
        rules = [{**HOT, "no_data_seconds": STALE_AFTER}, *RULES[1:]] if watched else RULES
        asked = {"rules": [*rules, AVERAGED], "sampling": SAMPLING} if sampled else rules
        self.rules = {f"u{partition}": json.dumps(asked) for partition in range(partitions)}

    def _partition(self, random: Random, partition: int, length: int) -> None:
        messages: list[Message] = []
        self.messages.append(messages)
        turns = Turns(random, length) if self.clocks else None
        for second in range(length):
            device = f"d{int(random.random() * 2)}"
            messages.append(self._message(random, partition, device, second))
            if turns is not None:
                messages[-1:] = turns.take(random, messages[-1], second)
            if random.random() < 0.12:
                again = messages[int(random.random() * len(messages))]
                if not again.redelivered and again.fate != "effect":
                    messages.append(_redelivered(again))

    def _message(self, random: Random, partition: int, device: str, second: int) -> Message:
        user, drawn = f"u{partition}", random.random()
        if drawn < 0.06:
            status = _message(user, f"iot/{user}/status", b"online", "effect", second)
            status.sign = f"{user}/"
            return status
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
        body: dict[str, Any] = {"time": text(moment(late)), "sequence_id": second, "temperature": temperature}
        if battery is not None:
            body["battery"] = battery
        poison = 0.32 <= drawn < 0.38
        if poison:
            body["poison"] = True
        fate = "refused_by_database" if poison else "row"
        message = _message(user, topic, json.dumps(body).encode(), fate, second, device)
        message.key = (moment(late), user, device, second)
        message.sign = f"{user}/{device}"
        message.reading = (message.sign, late, temperature, battery)
        return message


class Turns:
    """What clocks do to the readings of a partition, and what its second device sends of history."""

    def __init__(self, random: Random, length: int) -> None:
        self._back_at, self._back_by = int(random.random() * length * 0.7), random.choice((0, 3, 1800))
        self._history_at = int(random.random() * length * 1.5)  # or never

    def take(self, random: Random, message: Message, second: int) -> list[Message]:
        """A message that a gateway took in at that second, as it is sent, and history in the same second."""
        by = self._back_by if second >= self._back_at else 0
        if message.reading is not None and message.reading[0].endswith("/d0") and random.random() < 0.05:
            by = -AHEAD
        sent = [_turned(message, second, by, second)]
        if message.reading is not None and second >= self._history_at:
            self._history_at += 1 << 30
            sent += [_turned(message, second, HISTORY - 10 * kept, 1000 + kept, 95) for kept in range(5)]
        return sent


def _turned(one: Message, came: int, by: int, sequence: int, temperature: int | None = None) -> Message:
    """The message with its reading's clock so many seconds behind."""
    record = one.record
    headers = (*record.headers, ("ingest_ms", b"%d" % (round(EPOCH * 1000) + came * 1000)))
    if one.reading is None:
        turned = LogRecord(0, record.key, record.value, headers)
        return Message(turned, one.fate, one.key, one.mark, sign=one.sign, came=came)
    device, second, measured, battery = one.reading
    reading = (device, second - by, measured if temperature is None else temperature, battery)
    body = json.loads(record.value or b"") | {"time": text(moment(second - by)), "sequence_id": sequence}
    body |= {"temperature": reading[2]}
    mark = one.mark + b"." + str(sequence).encode()
    again = Message(LogRecord(0, record.key, json.dumps(body).encode(), headers), one.fate, mark=mark, sign=one.sign)
    again.key, again.came, again.reading = (moment(second - by), one.key[1], one.key[2], sequence), came, reading
    if by == -AHEAD:
        again.fate, again.reading, again.sign = "time_in_future", None, ""
    return again


def _redelivered(one: Message) -> Message:
    """The same message again at a new offset: its reading is stepped again too."""
    record = LogRecord(0, one.record.key, one.record.value, (*one.record.headers, ("mqtt_dup", b"1")))
    return replace(one, record=record, redelivered=True, events=())


def _message(user: str, topic: str, payload: bytes, fate: str, second: int, device: str = "") -> Message:
    mark = f"{topic}#{second}".encode()
    headers: Sequence[tuple[str, bytes]] = (("mqtt_topic", topic.encode()), ("mqtt_id", b"%d" % second))
    key = f"{user}/{device}" if device else user
    return Message(LogRecord(0, key.encode(), payload, headers), fate, mark=mark)


def _silence(user: str, device: str) -> Message:
    return Message(LogRecord(0, f"{user}/{device}".encode(), b"", (("kind", b"silence"),)), "dropped")


def moment(second: int) -> datetime:
    """When a reading of this second was taken."""
    return START + timedelta(seconds=second)


def text(time: datetime) -> str:
    """As events and payloads have it."""
    return time.isoformat().replace("+00:00", "Z")
