"""What a run sends, all of it known before: users, devices, each reading and the alerts it must cause. Pure.

Message n of the run is of device n modulo the devices; its sequence id counts the messages of its device from 1. So the
whole run is a function of a few numbers, and nothing has to be kept of a message to know later what it was.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from app.loadtest.schedule import Schedule

RULE_ID = "load-test-hot"
HOT_ABOVE = 80
RULES: list[dict[str, Any]] = [
    {"id": RULE_ID, "key": "temperature", "operator": ">", "threshold": HOT_ABOVE, "severity": "info",
     "message": "a reading of the load tester that is meant to be hot"},
]  # fmt: skip
HOT_EVERY, HOT_FOR = 100, 3  # of so many readings of a device so many in a row are hot
HOT_FROM = 50  # where among them
_MILLION = 1_000_000
# The numbers of a reading: tenths of a degree below the threshold, and a sum that each of its parts changes.
COOL_FROM, COOL_TENTHS, HOT_TENTHS = 200, 500, 950
SUM_SEQUENCE, SUM_DEVICE, SUM_MODULO = 2_654_435_761, 40_503, 2_147_483_647


class ExpectedAlert(NamedTuple):
    """A transition that the alert tables must have."""

    status: str
    event_us: int  # microseconds since 1970


class LoadPlan:
    """The run as a whole."""

    def __init__(
        self,
        run: str,
        users: int,
        devices_per_user: int,
        schedule: Schedule,
        user: str | None = None,
        start_us: int = 0,
    ) -> None:
        """`run` makes the names of this run different from all others. `user`: all devices are of this user, who exists
        already. `start_us`: when message 0 is due, microseconds since 1970; set once all devices are connected.
        """
        self.run, self.schedule, self.start_us = run, schedule, start_us
        self.devices = users * devices_per_user
        self._of_user = devices_per_user
        self.users = [user] if user is not None else [f"load-{run}-{number + 1}" for number in range(users)]
        self.own_users = user is None

    def user(self, device: int) -> str:
        """The user of a device."""
        return self.users[device // self._of_user if self.own_users else 0]

    def name(self, device: int) -> str:
        """The id of a device, and its MQTT client id."""
        return f"load-{self.run}-{device // self._of_user + 1}-{device % self._of_user + 1}"

    @property
    def pattern(self) -> str:
        """The names of all devices, as a pattern of SQL's LIKE."""
        return f"load-{self.run}-%"

    def number(self, name: str) -> int:
        """The device of a name."""
        user, device = map(int, name.removeprefix(f"load-{self.run}-").split("-"))
        return (user - 1) * self._of_user + device - 1

    def topic(self, device: int) -> str:
        """Where a device publishes."""
        return f"users/{self.user(device)}/devices/{self.name(device)}/telemetry"

    def message(self, device: int, sequence: int) -> int:
        """The number in the run of a device's reading."""
        return (sequence - 1) * self.devices + device

    def readings_of(self, device: int, messages: int) -> int:
        """How many of the first `messages` of the run are of a device."""
        return messages // self.devices + (device < messages % self.devices)

    def due_us(self, device: int, sequence: int) -> int:
        """When a reading is due and what its time says, microseconds since 1970."""
        return self.at_us(self.schedule.due(self.message(device, sequence)))

    def at_us(self, offset: float) -> int:
        """Seconds since the start of the run as microseconds since 1970."""
        return self.start_us + round(offset * _MILLION)

    @property
    def span_us(self) -> tuple[int, int]:
        """The times of the first and the last reading, microseconds since 1970."""
        return self.start_us, self.at_us(self.schedule.due(self.schedule.total - 1))

    def due_before(self, us: int) -> int:
        """How many readings of the run have a time before `us`, microseconds since 1970."""
        low, high = 0, self.schedule.total
        while low < high:
            middle = (low + high) // 2
            if self.at_us(self.schedule.due(middle)) < us:
                low = middle + 1
            else:
                high = middle
        return low

    def alerts_of(self, device: int, readings: int) -> Iterator[ExpectedAlert]:
        """The alerts that the first readings of a device must cause, in order."""
        first = 1 - HOT_EVERY + (HOT_FROM - 1 - device * 37) % HOT_EVERY
        for begin in range(first, readings + 1, HOT_EVERY):
            end = begin + HOT_FOR
            if end > 1:  # a stretch may begin before the first reading
                yield ExpectedAlert("FIRING", self.due_us(device, max(begin, 1)))
                if end <= readings:
                    yield ExpectedAlert("RESOLVED", self.due_us(device, end))


# What the database needs to know, to judge a row (app/postgres/queries/load_rows.py).
NUMBERS = {
    "hot_from": HOT_FROM, "hot_every": HOT_EVERY, "hot_for": HOT_FOR, "hot_tenths": HOT_TENTHS,
    "cool_from": COOL_FROM, "cool_tenths": COOL_TENTHS,
    "sum_sequence": SUM_SEQUENCE, "sum_device": SUM_DEVICE, "sum_modulo": SUM_MODULO,
}  # fmt: skip


def is_hot(device: int, sequence: int) -> bool:
    """Whether a reading is above the threshold of RULES."""
    return (sequence + device * 37 - HOT_FROM) % HOT_EVERY < HOT_FOR


def temperature_tenths(device: int, sequence: int) -> int:
    """The temperature of a reading, in tenths of a degree."""
    return HOT_TENTHS if is_hot(device, sequence) else COOL_FROM + (sequence * 7 + device * 13) % COOL_TENTHS


def payload(device: int, sequence: int, due_us: int) -> bytes:
    """A reading as the device sends it; app/postgres/queries/load_rows.py knows how its columns must look."""
    seconds, micros = divmod(due_us, _MILLION)
    tenths = temperature_tenths(device, sequence)
    return (
        b'{"sequence_id":%d,"timestamp":"%s.%06dZ","temperature":%d.%d,"battery":%d,"load_due_us":%d,"load_sum":%d}'
        % (
            sequence,
            _second(seconds),
            micros,
            tenths // 10,
            tenths % 10,
            1 + (sequence + device) % 100,
            due_us,
            (sequence * SUM_SEQUENCE + device * SUM_DEVICE) % SUM_MODULO,
        )
    )


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
