"""What an operator has to do, by part of the program: told when it comes up and once a minute until it is settled."""

import time
from collections.abc import Callable, Mapping

from app.adapters.sqlstate import advice, words
from app.adapters.store_events import Silent, StoreEvents

REMIND_SECONDS = 60.0  # how often an operator is told the same thing


class Advice:
    """Shared by all that ask the database; `now` is what /ready shows."""

    def __init__(self, events: StoreEvents | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._events: StoreEvents = events or Silent()
        self._clock = clock
        self._now: dict[str, str] = {}
        self._told: dict[str, tuple[str, float]] = {}

    @property
    def now(self) -> Mapping[str, str]:
        """{part: the database's words and what to do}; empty when nobody has to act."""
        return self._now

    def failed(self, part: str, error: BaseException) -> None:
        """A call of `part` failed: call for an operator if waiting may not be enough."""
        what = advice(error)
        if what is None:
            return
        message, now = f"{words(error)}: {what}", self._clock()
        self._now[part] = message
        told, at = self._told.get(part, ("", 0.0))
        if told != message or now >= at + REMIND_SECONDS:
            self._told[part] = (message, now)
            self._events.operator_needed(f"{part}: {message}")

    def settled(self, part: str) -> None:
        """A call of `part` went through, or nothing of it is waiting any more."""
        if self._now.pop(part, None) is not None:
            self._told.pop(part, None)
            if not self._now:
                self._events.operator_done()
