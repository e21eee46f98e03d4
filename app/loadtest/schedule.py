"""When each message of a run is due: a profile in, offsets in seconds out. Pure.

The schedule is open: a message is due whatever became of the messages before it, so that a stall makes messages late
instead of fewer.
"""

import math
from collections.abc import Sequence
from enum import Enum
from itertools import accumulate

from msgspec import Struct


class Profile(Enum):
    """How the load varies over time."""

    STEADY = "steady"  # the rate, evenly
    BURST = "burst"  # one second in ten at five times the rate, the others below it
    RAMP = "ramp"  # from a tenth of the rate up to the rate
    RECONNECT_STORM = "reconnect-storm"  # steady, and every ten seconds all connections are cut at once
    CHAOS = "chaos"  # bursts, and every second some connections are cut


class Stretch(Struct, frozen=True):
    """A time in which the rate changes evenly from `begin` to `end` messages a second."""

    seconds: float
    begin: float
    end: float

    @property
    def messages(self) -> float:
        """How many are due in all of it."""
        return self.seconds * (self.begin + self.end) / 2

    def by(self, offset: float) -> float:
        """How many are due before `offset`."""
        return offset * (self.begin + (self.end - self.begin) * offset / (2 * self.seconds))

    def when(self, messages: float) -> float:
        """The offset before which so many are due: the inverse of `by`."""
        if self.begin == self.end:
            return messages / self.begin
        slope = (self.end - self.begin) / self.seconds
        return (math.sqrt(self.begin**2 + 2 * slope * messages) - self.begin) / slope


PERIOD = 10.0  # seconds, of a burst and between two storms
BURST_SECONDS, BURST_TIMES = 1.0, 5.0
RAMP_FROM = 0.1  # of the rate


class Schedule:
    """The messages 0, 1, 2, ... of a run, and when each is due."""

    def __init__(self, profile: Profile, rate: float, seconds: float) -> None:
        """`rate`: messages a second of all devices together, on average (ramp: at its end)."""
        self._period = _period(profile, rate, seconds)
        self._seconds = sum(one.seconds for one in self._period)
        self._ends = list(accumulate(one.messages for one in self._period))
        whole, rest = divmod(seconds, self._seconds)
        self.total = max(1, math.floor(whole * self._ends[-1] + self._by(rest) + 1e-6))

    def due(self, message: int) -> float:
        """Seconds from the start of the run until `message` is due; never falls with the number."""
        periods, left = divmod(message, self._ends[-1])
        offset = periods * self._seconds
        for stretch, end in zip(self._period, self._ends, strict=True):
            if left < end:
                return offset + stretch.when(left - (end - stretch.messages))
            offset += stretch.seconds
        return offset

    def _by(self, offset: float) -> float:
        found = 0.0
        for stretch in self._period:
            if offset <= stretch.seconds:
                return found + stretch.by(offset)
            found, offset = found + stretch.messages, offset - stretch.seconds
        return found


def _period(profile: Profile, rate: float, seconds: float) -> Sequence[Stretch]:
    """The stretches that repeat."""
    if profile is Profile.RAMP:
        return [Stretch(seconds, rate * RAMP_FROM, rate)]
    if profile in (Profile.BURST, Profile.CHAOS):
        low = rate * (PERIOD - BURST_SECONDS * BURST_TIMES) / (PERIOD - BURST_SECONDS)
        return [
            Stretch(PERIOD - BURST_SECONDS, low, low),
            Stretch(BURST_SECONDS, rate * BURST_TIMES, rate * BURST_TIMES),
        ]
    return [Stretch(PERIOD, rate, rate)]
