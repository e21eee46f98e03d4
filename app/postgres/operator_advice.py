"""What is wrong with the database or the topics, by part of the program, and what an operator has to do."""

import time
from collections.abc import Callable, Mapping

from app.postgres.events import NoStoreEvents, StoreEvents
from app.postgres.sqlstate import advice, classify, words

REMIND_SECONDS = 60.0  # how often the same message is repeated to an operator
WAIT = "wait: the worker goes on by itself once the database answers"


class Advice:
    """Shared by all callers of the database, and by the watcher of the topics; /ready shows `now`."""

    def __init__(self, events: StoreEvents | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._events: StoreEvents = events or NoStoreEvents()
        self._clock = clock
        self._now: dict[str, str] = {}
        self._acting: set[str] = set()  # parts that wait for an operator
        self._given: dict[str, tuple[str, float]] = {}

    @property
    def now(self) -> Mapping[str, str]:
        """{part: the database's words and what to do}; empty when all is well."""
        return self._now

    def failed(self, part: str, error: BaseException) -> None:
        """A call of `part` failed and is repeated: call for an operator if waiting may not be enough."""
        self._events.database_failed(part, classify(error).value, words(error))
        what = advice(error)
        message = f"{words(error)}: {what or WAIT}"
        self._now[part] = message
        if what is not None:
            self.call(part, message)

    def call(self, part: str, message: str) -> None:
        """Only an operator can help `part`; the message says how."""
        now = self._clock()
        self._now[part] = message
        self._acting.add(part)
        given, at = self._given.get(part, ("", 0.0))
        if given != message or now >= at + REMIND_SECONDS:
            self._given[part] = (message, now)
            self._events.operator_needed(f"{part}: {message}")

    def settled(self, part: str) -> None:
        """A call of `part` went through, or none of its calls waits any more."""
        if self._now.pop(part, None) is None or part not in self._acting:
            return
        self._acting.discard(part)
        self._given.pop(part, None)
        if not self._acting:
            self._events.operator_done()
