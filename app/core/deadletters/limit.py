"""When there are too many dead letters for a single sender: in, every rejected record; out, an Excess, or None.

A wrong schema or a foreign topic makes every record a dead letter, of everybody. A broken device makes many on its own,
and so does a hostile account, with as many client ids as it likes: neither must be able to stop a platform. So each
sender counts at most a share of a limit: a device (a Kafka key) SHARE, a user what the setting says. Where no second
user is known there is nobody to be protected from the first, who is the platform: then only devices are bounded.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from app.core.model.arrival import is_replay
from app.core.model.records import Reason, Record, Rejected, Stage

SHARE = 0.1
# Reasons of what a person sends, not a device: the key may name any device, so one account could reach every limit.
NOT_COUNTED = frozenset({Reason.UNSUPPORTED_KIND, Reason.INVALID_RULES, Reason.INVALID_COMMAND})
UNKNOWN = b""  # the senders to topics that name nobody: all these senders together count as one user

Headers = Sequence[tuple[str, bytes]]


class LimitCause(NamedTuple):
    """The sender of a dead letter, as the limit counts: its key and its user."""

    user: bytes | None  # None: nobody's
    key: bytes | None
    reason: str


class Excess(NamedTuple):
    """Why no more may be dead-lettered."""

    rule: str  # which limit, in words
    reasons: dict[str, int]  # how many of each reason were counted
    sample: Rejected


def cause_of(key: bytes | None, headers: Headers, reason: str) -> LimitCause:
    """The cause of a record that was refused for `reason`, with good ids or bad.

    An MQTT topic names the account, to which the broker binds the topic, also where the topic means nothing or its ids
    are bad: nobody becomes another user by what he puts into a topic, a key or a payload. A record without a topic was
    written into Kafka by a program that is trusted, and its key names the user; a record without a key belongs to
    nobody, and counts every time.
    """
    for name, value in headers:
        if name == "mqtt_topic" and value is not None:
            levels = value.split(b"/", 2)
            named = len(levels) > 1 and levels[0] in (b"users", b"iot")
            return LimitCause(levels[1] if named else UNKNOWN, key, reason)
    return LimitCause(None if key is None else key.partition(b"/")[0], key, reason)


class _Tally:
    """Counts dead letters; a key and a user count at most so many times each."""

    def __init__(self, most: float, user_share: float) -> None:
        self.most, self._of_key = most, max(1, int(most * SHARE))
        self._of_user: float = max(1, int(most * user_share)) if user_share < 1 else math.inf
        self.clear()

    def clear(self) -> None:
        """Count from 0."""
        self.total = 0
        self.reasons: Counter[str] = Counter()
        self._keys: Counter[bytes] = Counter()  # like `_users`, no larger than the limit
        self._users: Counter[bytes] = Counter()

    def bound(self) -> None:
        """Bound the users that were counted alone."""
        for user, count in self._users.items():
            if count > self._of_user:
                self.total -= count - int(self._of_user)
                self._users[user] = int(self._of_user)

    def add(self, cause: LimitCause, *, alone: bool) -> bool:
        """Count a dead letter; whether there are more than allowed. `alone`: its user is the only one that is known."""
        user, key, reason = cause
        if reason in NOT_COUNTED or (key is not None and self._keys[key] >= self._of_key):
            return False
        if user is not None:
            if self._users[user] >= self._of_user and not alone:
                return False
            self._users[user] += 1
        if key is not None:
            self._keys[key] += 1
        self.total += 1
        self.reasons[reason] += 1
        return self.total > self.most


class DeadLetterLimit:
    """The limit of one worker. Dead letters are in a row when no batch with a good record was done in between.

    `row` (a number) and `ratio` (of the last `window` records) are the limits, 0 and 1 for none. A user counts at most
    `user_share` of either, 1 for as much as everybody.
    """

    def __init__(
        self, row: int, ratio: float, window: int, user_share: float = SHARE, users: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """`users` gives users that are known beside the users whose records come by."""
        self._row_limit, self._ratio, self._window, self._users = row, ratio, window, users
        self._known: set[bytes] = set()  # two at most
        # What the database refuses is known later than what decoding refuses: each has a row of its own.
        self._rows = {False: _Tally(row, user_share), True: _Tally(row, user_share)}
        self._share, self._seen = _Tally(ratio * window, user_share), 0

    @property
    def row(self) -> int:
        """How many dead letters in a row count."""
        return max(tally.total for tally in self._rows.values())

    def resume(self, causes: Iterable[LimitCause]) -> None:
        """Count the dead letters right before the first record of a partition.

        Otherwise each restart would allow as many dead letters again.
        """
        for cause in causes if self._row_limit else ():
            self._count(self._rows[cause.reason == Reason.REFUSED_BY_DATABASE], cause)

    def check(self, records: Sequence[Record], rejected: Sequence[Rejected]) -> Excess | None:
        """Count `rejected`, in the order of `records`, before they are sent; after an Excess none of them may be.

        A record that was put back from the dead-letter topic is not counted: it was counted once.
        """
        rejected = [one for one in rejected if not is_replay(one.record)]
        if not rejected:
            return None
        if len(self._known) < 2:
            self._knows(user.encode() for user in self._users())
        return self._check_row(records, rejected) or self._check_share(rejected)

    def _check_row(self, records: Sequence[Record], rejected: Sequence[Rejected]) -> Excess | None:
        if not self._row_limit:
            return None
        bad = {one.record.offset: one for one in rejected}
        row = self._rows[rejected[0].stage is Stage.STORE]
        for record in records:
            one = bad.get(record.offset)
            if one is None:
                if not is_replay(record):
                    row.clear()
            elif self._count(row, _cause(one)):
                return Excess(f"more than {self._row_limit} records in a row", dict(row.reasons), rejected[0])
        return None

    def _check_share(self, rejected: Sequence[Rejected]) -> Excess | None:
        if self._ratio >= 1:
            return None
        for one in rejected:
            if self._count(self._share, _cause(one)):
                rule = f"more than {self._ratio:.0%} of {self._window} records"
                return Excess(rule, dict(self._share.reasons), rejected[0])
        return None

    def done(self, received: int, dead: int, users: Iterable[str] = ()) -> None:
        """A batch of `received` records is done, `dead` of them dead letters, with readings of `users` among them."""
        if len(self._known) < 2:
            self._knows(user.encode() for user in users)
        if dead < received:
            for row in self._rows.values():
                if row.total:
                    row.clear()
        self._seen += received
        if self._seen >= self._window:
            self._seen = 0
            self._share.clear()

    def _count(self, tally: _Tally, cause: LimitCause) -> bool:
        if len(self._known) < 2 and cause.user:
            self._knows((cause.user,))
        return tally.add(cause, alone=self._known == {cause.user})

    def _knows(self, users: Iterable[bytes]) -> None:
        """Note which users there are. The count of the first user is bounded once there is a second."""
        for user in users:
            if len(self._known) == 1 and user not in self._known:
                for tally in (*self._rows.values(), self._share):
                    tally.bound()
            if len(self._known) < 2:
                self._known.add(user)


def _cause(one: Rejected) -> LimitCause:
    return cause_of(one.record.key, one.record.headers, one.reason)
