"""The guard against mass silence: too many devices silent at once is one trouble, and no device's own."""

from collections import deque
from collections.abc import Sequence

from app.core.presence import Thing

LEAST = 20  # devices that have to be watched; fewer are told each on its own
WINDOW = 10.0  # seconds


class MassGuard:
    """Those that fell silent in; out, those that may be told."""

    def __init__(self, share: float) -> None:
        """`share` of the watched devices, silent within WINDOW, are too many; 1: never."""
        self._share = share
        self._recent: deque[tuple[float, int, int]] = deque()  # when, watched, told
        self._waited = False
        self.later: list[Thing] = []  # to be asked about at the next look: many at once may be the first of too many
        self.silent: dict[Thing, None] = {}  # while it is on: those that fell silent
        self.on = False

    def forget(self) -> None:
        """A new assignment: other devices."""
        self._recent.clear()
        self.later, self.silent, self.on = [], {}, False

    def passed(self, fallen: Sequence[Thing], watched: int, now: float) -> list[Thing]:
        """Which of those that are silent may be told now; ask about `later` again. To be asked at every look."""
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()
        most = max([watched, *(one for _, one, _ in self._recent)])
        waited, self._waited, self.later = self._waited, False, []
        if self.on:
            self.silent |= dict.fromkeys(fallen)
            return []
        told = list(fallen)
        if most >= LEAST and self._share < 1:
            told = self._few(told, sum(told for _, _, told in self._recent), self._share * most, waited=waited)
        self._recent.append((now, watched, len(told)))
        return told

    def _few(self, fallen: list[Thing], recent: int, too_many: float, *, waited: bool) -> list[Thing]:
        """The same where there may be too many: then only those count whose silence is certain."""
        if len(fallen) < too_many / 4 and len(fallen) + recent < too_many:
            return fallen
        certain = [thing for thing in fallen if thing.seen_at + thing.limits.after <= thing.here.even_at]
        if len(certain) + recent >= too_many:
            self.on, self.silent = True, dict.fromkeys(fallen)
            return []
        if waited and len(fallen) + recent < too_many:
            kept = dict.fromkeys(certain)
            self.later = [thing for thing in fallen if thing not in kept]
            return certain
        self.later, self._waited = fallen, True
        return []

    def back(self, watched: int, now: float) -> list[Thing]:
        """Those that were heard of again while it is on; all, when so many were that it is over."""
        back = [thing for thing in self.silent if not thing.online or thing.seen_at + thing.limits.after > now]
        for thing in back:
            del self.silent[thing]
        if self.on and len(self.silent) < self._share * watched / 2:
            back += self.silent
            self.forget()
        return back
