"""Dead letters counted: in, letters; out, how many of each reason, stage, user and device, and how old they are."""

from collections import Counter
from typing import Any

from app.deadletters.letter import Letter

MOST = 10  # users and devices that are named
# Seconds up to which a letter belongs to an age, and what the age is called.
AGES = (
    (60, "1 minute"), (3_600, "1 hour"), (6 * 3_600, "6 hours"), (86_400, "1 day"), (7 * 86_400, "7 days"),
    (30 * 86_400, "30 days"),
)  # fmt: skip
OLDER = "older"


class LetterTally:
    """ReplayCounts. `now_ms` is milliseconds since 1970: ages are as of then."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self.total = 0
        self.unreadable = 0  # records without an envelope
        self.reasons: Counter[str] = Counter()
        self.stages: Counter[str] = Counter()
        self.users: Counter[str] = Counter()
        self.devices: Counter[tuple[str, str]] = Counter()
        self.replays: Counter[int] = Counter()
        self._seconds: Counter[int] = Counter()  # ages, in whole minutes: a bound of memory
        self._oldest = self._newest = 0

    def add(self, letter: Letter) -> None:
        """Count a letter."""
        at = letter.at_ms
        if not self.total or at < self._oldest:
            self._oldest = at
        self._newest = max(self._newest, at)
        self.total += 1
        self.reasons[letter.reason] += 1
        self.stages[letter.dead.stage or "-"] += 1
        self.users[letter.user_id] += 1
        self.devices[letter.user_id, letter.device_id] += 1
        self.replays[letter.dead.replay_count] += 1
        self._seconds[max(0, self._now_ms - at) // 60_000] += 1

    def ages(self) -> dict[str, int]:
        """How many letters are no older than each of AGES, and not in the age before; and OLDER."""
        found = dict.fromkeys([*(name for _, name in AGES), OLDER], 0)
        for minutes, count in self._seconds.items():
            found[next((name for most, name in AGES if minutes * 60 < most), OLDER)] += count
        return found

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest letter, milliseconds since 1970; None without one."""
        return self._oldest if self.total else None

    @property
    def newest_ms(self) -> int | None:
        """The time of the newest letter, as `oldest_ms`."""
        return self._newest if self.total else None

    def as_json(self) -> dict[str, Any]:
        """All counts as built-in types, the largest first."""
        return {
            "letters": self.total,
            "unreadable": self.unreadable,
            "reasons": dict(self.reasons.most_common()),
            "stages": dict(self.stages.most_common()),
            "users": [{"user_id": user, "letters": count} for user, count in self.users.most_common(MOST)],
            "users_in_all": len(self.users),
            "devices": [
                {"user_id": user, "device_id": device, "letters": count}
                for (user, device), count in self.devices.most_common(MOST)
            ],
            "devices_in_all": len(self.devices),
            "replays": {str(count): letters for count, letters in sorted(self.replays.items())},
            "ages": self.ages(),
            "oldest_ms": self.oldest_ms,
            "newest_ms": self.newest_ms,
        }
