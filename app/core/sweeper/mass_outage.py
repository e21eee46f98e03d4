"""The guard against mass silence: too many devices silent at once is one trouble, and no device's own.

The trouble is that of a single user, whose devices alone are then held back; or that of the path, and all devices are
held back: when so many devices of many users fall silent that no account can have made this up, or when every user is
in trouble. Held devices are reported in the end: when most are back, or when the silence has lasted too long.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from app.core.presence.device_presence import DevicePresence
from app.core.presence.online_count import WEIGHT, OnlineCount

LEAST = 20  # devices that have to be watched; fewer are reported each on its own
WINDOW = 10.0  # seconds
TENTH = 0.1  # of the watched devices: no user counts for more in the path's trouble
NEARLY_ALL = 0.9
ALL = ""  # in place of a user: everybody. No user has this id

Weigh = Callable[[Iterable[DevicePresence]], float]


class Hold:
    """Devices that are not reported."""

    __slots__ = ("silent", "since")

    def __init__(self, silent: Iterable[DevicePresence], since: float) -> None:
        self.silent: dict[DevicePresence, None] = dict.fromkeys(silent)  # devices that fell silent
        self.since = since  # seconds since 1970


class _Recent:
    """Which devices of one user, or of all, were reported a moment ago, and how many were watched then."""

    __slots__ = ("looks",)

    def __init__(self) -> None:
        self.looks: deque[tuple[float, float, list[DevicePresence]]] = deque()

    def at(self, now: float) -> list[DevicePresence]:
        """The devices that were reported within WINDOW before `now` (seconds since 1970)."""
        while self.looks and self.looks[0][0] < now - WINDOW:
            self.looks.popleft()
        return [presence for _, _, free_now in self.looks for presence in free_now]

    def most(self, watched: float) -> float:
        """The most devices that were watched within that time, `watched` now."""
        return max([watched, *(one for _, one, _ in self.looks)])


class MassOutageGuard:
    """In, devices that fell silent; out, the devices that may be reported."""

    def __init__(self, share: float, lasts: float) -> None:
        """A `share` of all watched devices, silent within WINDOW, is too many (1: never); a hold `lasts` so long."""
        self._share, self._lasts = share, lasts
        self._recent: dict[str, _Recent] = {}
        self._asked: frozenset[DevicePresence] = frozenset()  # devices in `later` at the look before
        self.later: list[
            DevicePresence
        ] = []  # to be asked about at the next look: a device may be the first of too many
        self.holds: dict[str, Hold] = {}  # by user, or ALL alone
        self.let_go: set[DevicePresence] = (
            set()
        )  # devices of a hold that has lasted too long: they are reported, however many

    def forget(self) -> None:
        """The assignment is new: forget the devices of the one before."""
        self._recent, self.later, self.holds, self.let_go = {}, [], {}, set()

    def holds_back(self, user_id: str) -> bool:
        """Whether the user's devices are not reported now."""
        return ALL in self.holds or user_id in self.holds

    def lets_go(self, user_id: str) -> bool:
        """Whether devices of the user, or of ALL, are still to be reported after a hold that has lasted too long."""
        return any(user_id in (ALL, presence.user) for presence in self.let_go)

    def passed(self, fallen: Sequence[DevicePresence], roll: OnlineCount, now: float) -> list[DevicePresence]:
        """Which of the silent devices may be reported at `now` (seconds since 1970). To be called at every look, with
        the devices in `later` again.
        """
        self._asked, self.later = frozenset(self.later), []
        if self._share >= 1:
            return list(fallen)
        free = [presence for presence in fallen if presence in self.let_go]
        rest = [presence for presence in fallen if presence not in self.let_go]
        if ALL in self.holds:
            self.holds[ALL].silent |= dict.fromkeys(rest)
            return free
        free_now = []
        for user_id, presences in _by_user(rest).items():
            if user_id in self.holds:
                self.holds[user_id].silent |= dict.fromkeys(presences)
            else:
                free_now += self._of_user(user_id, presences, roll, now)
        free_now = self._of_all(free_now, roll, now)
        for user_id, presences in _by_user(free_now).items():
            self._recent[user_id].looks.append((now, roll.of(user_id), presences))
        if free_now:
            self._recent[ALL].looks.append((now, roll.weight, free_now))
        self._recent = {name: one for name, one in self._recent.items() if one.at(now)}
        return free + free_now

    def _of_user(
        self, user_id: str, fallen: list[DevicePresence], roll: OnlineCount, now: float
    ) -> list[DevicePresence]:
        recent = self._recent.setdefault(user_id, _Recent())
        before = recent.at(now)
        most = recent.most(roll.of(user_id))
        if most < LEAST:
            return fallen
        return self._few(user_id, fallen, lambda some: len(before) + len(list(some)), self._share * most, now)

    def _of_all(self, fallen: list[DevicePresence], roll: OnlineCount, now: float) -> list[DevicePresence]:
        """Which devices may be reported among all users, with the devices that are held already."""
        recent = self._recent.setdefault(ALL, _Recent())
        before = recent.at(now) + [presence for hold in self.holds.values() for presence in hold.silent]
        most = recent.most(roll.weight)
        if self._nobody_is_heard(roll):
            self._everybody(fallen, now)
            return []
        if most < LEAST or not fallen:
            return fallen

        def weigh(some: Iterable[DevicePresence]) -> float:
            return self._weighed([*before, *some], roll, most)

        passed = self._few(ALL, fallen, weigh, self._share * most, now)
        if ALL in self.holds:
            self._everybody(fallen, now)
        return passed

    def _few(
        self, name: str, fallen: list[DevicePresence], weigh: Weigh, too_many: float, now: float
    ) -> list[DevicePresence]:
        """The devices that pass where there may be too many. Each waits for a second look, as those that fall silent
        with it may be due a moment later; where there are many, only devices count whose silence is certain.
        """
        certain = [
            presence for presence in fallen if presence.seen_at + presence.limits.after <= presence.registry.even_at
        ]
        if weigh(certain) >= too_many:
            self.holds[name] = Hold(fallen, now)
            return []
        passing: frozenset[DevicePresence] = frozenset()
        if weigh(fallen) < too_many:
            few = weigh(fallen) - weigh(()) < too_many / 4
            passing = self._asked.intersection(fallen if few else certain)
        self.later += [presence for presence in fallen if presence not in passing]
        return [presence for presence in fallen if presence in passing]

    def _nobody_is_heard(self, roll: OnlineCount) -> bool:
        """Whether every user is in trouble, and unless there is only one user, with nearly all devices."""
        if not self.holds or len(self.holds) < roll.users:
            return False
        return roll.users == 1 or all(
            len(hold.silent) >= NEARLY_ALL * roll.of(user_id) for user_id, hold in self.holds.items()
        )

    def _everybody(self, fallen: Iterable[DevicePresence], now: float) -> None:
        """From now on this is the path's trouble, into which the troubles of single users go."""
        since = min([now, *(hold.since for hold in self.holds.values())])
        silent = [presence for hold in self.holds.values() for presence in hold.silent]
        self.holds, self.later = {ALL: Hold([*silent, *fallen, *self.later], since)}, []

    def _weighed(self, silent: Iterable[DevicePresence], roll: OnlineCount, most: float) -> float:
        """What the silent devices count for: each user by the share of silent devices, a tenth of all at most."""
        counts = Counter(presence.user for presence in dict.fromkeys(silent))
        weights = ((max(roll.of(user_id), count), count) for user_id, count in counts.items())
        return sum(min(min(watched, WEIGHT) * count / watched, most * TENTH) for watched, count in weights)

    def back(self, roll: OnlineCount, now: float) -> list[DevicePresence]:
        """The devices that are heard of again, and all devices of a hold that is over: when most are back, or the hold
        has lasted too long.
        """
        self.let_go = {
            presence for presence in self.let_go if presence.online and presence.seen_at + presence.limits.after <= now
        }
        found: list[DevicePresence] = []
        for name, hold in list(self.holds.items()):
            back = [
                presence
                for presence in hold.silent
                if not presence.online or presence.seen_at + presence.limits.after > now
            ]
            for presence in back:
                del hold.silent[presence]
            found += back
            late = now - hold.since >= self._lasts
            if late or not self._many(name, hold, roll):
                found += hold.silent
                if late:
                    self.let_go |= hold.silent.keys()
                del self.holds[name]
                self._recent.clear()
        return found

    def _many(self, name: str, hold: Hold, roll: OnlineCount) -> bool:
        """Whether half of the devices that began the hold are still silent."""
        half = self._share / 2
        if name != ALL:
            return len(hold.silent) >= half * roll.of(name)
        if self._weighed(hold.silent, roll, roll.weight) >= half * roll.weight:
            return True
        counts = Counter(presence.user for presence in hold.silent)
        return len([user for user, count in counts.items() if count >= half * roll.of(user)]) == roll.users


def _by_user(presences: Iterable[DevicePresence]) -> dict[str, list[DevicePresence]]:
    found: dict[str, list[DevicePresence]] = {}
    for presence in presences:
        found.setdefault(presence.user, []).append(presence)
    return found
