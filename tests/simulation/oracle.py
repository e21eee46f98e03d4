"""What must become of each record, asked in the order of the log: the reference model. It shares no code with the app.

The oracle knows the promises. A reading older than the newest one moves no alert; an episode opens when its condition
holds and closes when it does not, and each of these is reported once. Of a device with change of value a row is left
out when it says no more than the last row. A rolling window holds the readings of its last seconds, each once. An
inactive device is reported once, as soon as a claim in the log says so and no sign of life between what the claim has
seen and the claim itself refutes the claim.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from tests.simulation.script import BAND, HEARTBEAT, SET_BACK_AFTER, WINDOW, Event, Message, Script, moment, text
from tests.simulation.world import EPOCH

OFFLINE = "$offline"
WARM = f"avg(temperature,{WINDOW}s)"
Average = tuple[Any, ...]  # a row of rolling_averages


@dataclass
class Device:
    """What is known of one device's readings."""

    name: str
    latest: int | None = None
    since: dict[str, str] = field(default_factory=dict)  # rule -> when its episode opened
    stale: bool = False  # of the episode of temperature
    heard: int = -1  # offset of the reading that spoke of temperature last
    temperature: float = 0.0
    taken: list[tuple[int, float]] = field(default_factory=list)
    kept: tuple[int, float] | None = None  # time and temperature of the row stored last
    run: list[tuple[int, int]] = field(default_factory=list)  # late readings in a row: time, and when they came in

    def is_set_back(self, second: int, came: int) -> bool:
        """Whether the clock was set back, as this late reading shows: in order, and about as fast as time passes."""
        if self.run and second < self.run[-1][0]:
            self.run = []
        self.run.append((second, came))
        passed, took = second - self.run[0][0], came - self.run[0][1]
        return len(self.run) >= SET_BACK_AFTER and 0 < passed <= 4 * took and took <= 4 * passed

    def window(self) -> list[float]:
        """What is in the rolling window, which has 12 parts of half a second; readings come at whole seconds."""
        latest = self.latest or 0
        return [value for second, value in self.taken if second > latest - WINDOW]

    def alerts(self, second: int, temperature: float, battery: int | None, *, averaged: bool) -> tuple[Event, ...]:
        """The events that a reading causes which is not late."""
        now, found = text(moment(second)), list[Event]()
        mean = sum(self.window()) / len(self.window()) if averaged else None
        for rule, value, starts, stays in (
            ("temperature", temperature, temperature > 80, temperature > 60),
            ("battery", battery, battery is not None and battery < 10, battery is not None and battery < 10),
            (WARM, mean, mean is not None and mean > 75, mean is not None and mean > 75),
        ):
            if value is None:
                continue
            again = rule == "temperature" and self.stale
            if (rule not in self.since and starts) or (again and stays):
                since = self.since.setdefault(rule, now)
                found.append((self.name, rule, "FIRING", since, now, float(value)))
            elif rule in self.since and not stays:
                found.append((self.name, rule, "RESOLVED", self.since.pop(rule), now, float(value)))
        self.stale = False
        return tuple(found)

    def must_store(self, second: int, temperature: float) -> bool:
        """Whether change of value has to keep a reading's row."""
        return self.kept is None or second - self.kept[0] >= HEARTBEAT or abs(temperature - self.kept[1]) > BAND


@dataclass
class Life:
    """Whether a device or a node is there."""

    online: bool = False
    reported: bool = False  # that it is not
    last: int = -1  # offset of its last sign of life


class Oracle:
    """Fills in `fate` and `events` of a partition's messages."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._devices: dict[str, Device] = {}
        self.lives: dict[str, Life] = defaultdict(Life)
        self.averages: dict[str, list[Average]] = defaultdict(list)  # by device, after each of its readings
        self.set_back: list[tuple[Any, ...]] = []  # devices whose clock was

    def take(self, message: Message) -> None:
        """The next record of a log."""
        record, events = message.record, list[Event]()
        if self._script.watched and message.sign:
            events += self._sign(message.sign, record.offset, record.timestamp)
        if message.reading is not None:
            events += self._read(message)
        elif self._script.watched and message.fate == "dropped" and record.value:
            events += self._claim(msgspec.json.decode(record.value), record.offset, record.timestamp)
        message.events = tuple(events)

    @property
    def settled(self) -> bool:
        """Whether every event of an inactivity that goes on for ever was sent."""
        stale = all(device.stale for device in self._devices.values() if "temperature" in device.since)
        return not self._script.watched or (stale and not any(life.online for life in self.lives.values()))

    def _read(self, message: Message) -> tuple[Event, ...]:
        assert message.reading is not None
        name, second, temperature, battery = message.reading
        device, sampled = self._devices.setdefault(name, Device(name)), self._script.sampled
        late, events = device.latest is not None and second < device.latest, tuple[Event, ...]()
        if not late:
            device.run = []
        elif sampled or message.came is None or message.redelivered:
            pass  # a row of averages keeps the newest time ever: nobody's clock is believed to be set back there
        elif device.is_set_back(second, message.came):
            assert device.latest is not None
            user, _, one = name.partition("/")
            came = datetime.fromtimestamp(EPOCH + message.came, UTC)
            self.set_back.append((name, user, one, came, float(device.latest - device.run[0][0]), ""))
            late, device.run, device.latest = False, [], second
        device.latest = second if device.latest is None else max(second, device.latest)
        device.taken.append((second, temperature))
        if not late:
            device.heard, device.temperature = message.record.offset, temperature
            events = device.alerts(second, temperature, battery, averaged=sampled)
            if sampled and name.endswith("/d0"):
                if events or device.must_store(second, temperature):
                    device.kept = second, temperature
                else:
                    message.fate = "left out"
        if sampled:
            self.averages[name].append(_average(device))
        return events

    def _sign(self, name: str, offset: int, ms: int) -> list[Event]:
        life = self.lives[name]
        life.last, was_online, life.online = offset, life.online, True
        if was_online or not life.reported:
            return []
        life.reported = False
        return [(name, OFFLINE, "RESOLVED", "", _time(ms), "online")]

    def _claim(self, claim: dict[str, Any], offset: int, ms: int) -> list[Event]:
        name = f"{claim['user_id']}/{claim['device_id']}"
        if claim["what"] == "no_data":
            device = self._devices[name]
            if device.stale or "temperature" not in device.since or device.heard >= claim["up_to"]:
                return []
            device.stale = True
            since = device.since["temperature"]
            return [(name, "temperature", "STALE", since, _time(ms), float(device.temperature))]
        life = self.lives[name]
        if not life.online or life.last >= claim["up_to"]:
            return []
        life.online, life.reported = False, True
        return [(name, OFFLINE, "FIRING", "", _time(ms), "offline")]


def _average(device: Device) -> Average:
    values, (user, _, name) = device.window(), device.name.partition("/")
    mean = sum(values) / len(values)
    figures = (len(values), mean, min(values), max(values))
    return (user, name, "temperature", WINDOW, moment(device.latest or 0), *figures)


def _time(ms: int) -> str:
    return text(datetime.fromtimestamp(ms / 1000, UTC))
