"""Which message a broker cannot take: in, how sendings end; out, whom to try alone, and what to leave out.

A connection that ends, or a message that is refused, says little: the broker may be down, restarting, or set up wrongly
for everybody. So the first message without an answer is only a suspect. The suspect is set aside with its user, and
other messages go on. Then the suspect is tried alone, on a connection that has just taken other messages; when this
trial ends badly STRIKES times, each time after more messages of others, the message is at fault and not the broker.
While no message is taken, no message is left out.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")

STRIKES = 3


class Suspect(Struct, Generic[T], eq=False):
    """A message that the receiver may be unable to take, the first of its lane."""

    lane: str
    message: T
    why: str
    due: float  # when the suspect is tried next, seconds on the clock of `now`
    strikes: int = 0
    tries: int = 0


class Suspects(Generic[T]):
    """The suspects of one receiver; at most one in each lane, as the lane waits for its suspect."""

    def __init__(self, pause: Callable[[int], float]) -> None:
        """`pause`: seconds before a suspect is tried again, given how many of its trials ended badly (0, 1, ...)."""
        self._pause = pause
        self._lanes: dict[str, Suspect[T]] = {}
        self._proofs = 0  # messages of others that were taken, on this connection and since the last trial
        self._trial: Suspect[T] | None = None

    def __len__(self) -> int:
        return len(self._lanes)

    def __contains__(self, lane: str) -> bool:
        return lane in self._lanes

    @property
    def trial(self) -> Suspect[T] | None:
        """The suspect that is on its way alone; None when no trial runs."""
        return self._trial

    def suspect(self, lane: str, message: T, why: str, now: float) -> None:
        """The sending of `message`, among others, ended badly."""
        self._lanes[lane] = Suspect(lane, message, why, now + self._pause(0))

    def took(self) -> None:
        """The receiver took a message of somebody else: the receiver is well, so that waiting is of no use."""
        self._proofs += 1

    def connected(self) -> None:
        """A new connection is there: what the connection before took proves nothing."""
        self._proofs = 0

    def next(self, now: float) -> Suspect[T] | None:
        """The suspect that is due at `now` (seconds), to be tried once nothing else is on the way; else None."""
        due = [one for one in self._lanes.values() if one.due <= now]
        return min(due, key=lambda one: one.due) if due else None

    def proven(self, one: Suspect[T]) -> bool:
        """Whether the receiver took enough messages of others that a trial of this suspect would say something."""
        return self._proofs > one.strikes

    def waits(self, now: float) -> float | None:
        """Seconds until a suspect is due; None without a suspect."""
        return max(0.0, min(one.due for one in self._lanes.values()) - now) if self._lanes else None

    def begin(self, one: Suspect[T]) -> None:
        """The suspect is on its way, alone."""
        self._trial = one

    def taken(self) -> Suspect[T]:
        """The trial went well: the receiver takes this message. Returns the suspect of this trial."""
        assert self._trial
        one, self._trial = self._trial, None
        del self._lanes[one.lane]
        self._proofs += 1
        return one

    def failed(self, why: str, now: float) -> Suspect[T] | None:
        """The trial ended badly at `now` (seconds), because of `why`; returns the suspect when it is to be left out."""
        assert self._trial
        one, self._trial = self._trial, None
        one.why = why
        one.tries += 1
        one.due = now + self._pause(one.tries)
        if not self.proven(one):
            return None
        one.strikes += 1
        self._proofs = 0
        if one.strikes < STRIKES:
            one.due = now + self._pause(0)
            return None
        del self._lanes[one.lane]
        return one
