"""When there are too many dead letters to be a few bad devices: in, every rejected record; out, an Excess, or None.

A wrong schema or a foreign topic makes every record a dead letter, of every device. A broken device makes many, alone:
whatever it sends, it must not stop a platform. So a device (a Kafka key) counts at most SHARE of a limit: fewer than
ten devices never reach it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from app.core.model import Reason, Record, Rejected, Stage

SHARE = 0.1
# What a person sends, not a device: its key may name any device, so one account could reach every limit with them.
NOT_COUNTED = frozenset({Reason.UNSUPPORTED_KIND, Reason.INVALID_RULES, Reason.INVALID_COMMAND})


class Excess(NamedTuple):
    """Why no more may be dead-lettered."""

    rule: str  # which limit, in words
    reasons: dict[str, int]  # how many of each reason were counted
    sample: Rejected


class _Tally:
    """Counts, a key at most `each` times; a record without a key is no device's, and counts every time."""

    def __init__(self, most: float) -> None:
        self.most, self._each = most, max(1, int(most * SHARE))
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.total = 0
        self.reasons: Counter[str] = Counter()
        self._keys: Counter[bytes] = Counter()

    def add(self, key: bytes | None, reason: str) -> bool:
        """Count one; whether that is more than there may be."""
        if key is not None:
            if self._keys[key] >= self._each:
                return False
            self._keys[key] += 1
        self.total += 1
        self.reasons[reason] += 1
        return self.total > self.most


class DeadLetterLimit:
    """One worker's. Dead letters in a row are those since a batch with a good record was done.

    `row` and `ratio` are the limits, 0 and 1 for none; the ratio is that of `window` records.
    """

    def __init__(self, row: int, ratio: float, window: int) -> None:
        self._row_limit, self._ratio, self._window = row, ratio, window
        # What the database refuses is known later than what decoding refuses: rows of their own.
        self._rows = {False: _Tally(row), True: _Tally(row)}
        self._share, self._seen = _Tally(ratio * window), 0

    @property
    def row(self) -> int:
        """Dead letters in a row, as they count."""
        return max(tally.total for tally in self._rows.values())

    def resume(self, letters: Iterable[tuple[bytes | None, str]]) -> None:
        """Count (key, reason) of the dead letters right before the first record of a partition.

        Else each restart would make as many as the limit allows.
        """
        for key, reason in letters if self._row_limit else ():
            self._rows[reason == Reason.REFUSED_BY_DATABASE].add(key, reason)

    def check(self, records: Sequence[Record], rejected: Sequence[Rejected]) -> Excess | None:
        """Count `rejected`, which are in the order of `records`, before they are sent; an Excess: send none of them."""
        if not rejected:
            return None
        return self._check_row(records, rejected) or self._check_share(rejected)

    def _check_row(self, records: Sequence[Record], rejected: Sequence[Rejected]) -> Excess | None:
        if not self._row_limit:
            return None
        bad = {one.record.offset: one for one in rejected}
        row = self._rows[rejected[0].stage is Stage.STORE]
        for record in records:
            one = bad.get(record.offset)
            if one is None:
                row.clear()
            elif one.reason not in NOT_COUNTED and row.add(record.key, one.reason):
                return Excess(f"more than {self._row_limit} records in a row", dict(row.reasons), rejected[0])
        return None

    def _check_share(self, rejected: Sequence[Rejected]) -> Excess | None:
        if self._ratio >= 1:
            return None
        for one in rejected:
            if one.reason not in NOT_COUNTED and self._share.add(one.record.key, one.reason):
                rule = f"more than {self._ratio:.0%} of {self._window} records"
                return Excess(rule, dict(self._share.reasons), rejected[0])
        return None

    def done(self, received: int, dead: int) -> None:
        """A batch of `received` records is done, `dead` of them dead letters."""
        if dead < received:
            for row in self._rows.values():
                if row.total:
                    row.clear()
        self._seen += received
        if self._seen >= self._window:
            self._seen = 0
            self._share.clear()
