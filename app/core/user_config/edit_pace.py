"""Edits of users' rules -> the edits to be compiled now: a user who edits large rules again and again waits, alone.

Compiling stops everything else of a worker. So each compilation is paid for in time, by the length of its text: until
this time has passed the user's next edit waits, and of several edits that wait the last one counts.
"""

import heapq
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

# A kilobyte takes up to 50 us to check and compile, including its changes for the user's devices: at this rate a user
# takes 1 % of a worker, and a user with 20 kB of rules may change them four times a second.
SECONDS_OF_A_KILOBYTE = 0.0125
FREE = 4096  # bytes that are not paid for: most users have less, and are never late
BATCH = 1 << 16  # bytes to be compiled at one go, some 3 ms


class Edit(Protocol):
    """The part of a change that the pace depends on."""

    @property
    def user_id(self) -> str:
        """Whose configuration is edited."""

    @property
    def text(self) -> str | None:
        """The configuration as JSON; None: it was removed."""


E = TypeVar("E", bound=Edit)


class EditPace(Generic[E]):
    """The pace of one worker's edits; `now` is in seconds of a clock that nobody sets."""

    def __init__(self) -> None:
        self._waiting: dict[str, E] = {}
        self._free_at: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []  # when users are free again, in that order: then they are forgotten

    def due(self, edits: Iterable[E], now: float) -> list[E]:
        """Which of these edits, and of the edits that have waited, are to be taken at `now`."""
        while self._order and self._order[0][0] <= now:
            at, user_id = heapq.heappop(self._order)
            if self._free_at.get(user_id) == at:
                del self._free_at[user_id]
        for edit in edits:
            self._waiting[edit.user_id] = edit
        found = [edit for user_id, edit in self._waiting.items() if user_id not in self._free_at]
        for edit in found:
            del self._waiting[edit.user_id]
            self._pays(edit, now)
        return found

    def _pays(self, edit: E, now: float) -> None:
        size = len(edit.text or "")
        if size > FREE:
            at = now + (size - FREE) / 1024 * SECONDS_OF_A_KILOBYTE
            self._free_at[edit.user_id] = at
            heapq.heappush(self._order, (at, edit.user_id))


def batches(edits: Iterable[E]) -> Iterable[list[E]]:
    """The edits in portions of at most BATCH bytes that are compiled at one go; a single edit may be larger."""
    portion: list[E] = []
    size = 0
    for edit in edits:
        more = len(edit.text or "") + 64
        if portion and size + more > BATCH:
            yield portion
            portion, size = [], 0
        portion.append(edit)
        size += more
    if portion:
        yield portion
