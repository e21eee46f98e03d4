"""Which series an account sends, counted exactly up to a bound; beyond the bound new series differ from known ones.

A series is what a device or sensor sends, named by its topic. Names cost memory here and in what reads the rows, and
anybody may make them up. A series that is known is never refused; a series that was not seen for a while is forgotten.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

WARN_AT = 0.8  # of the limit


class _Known(Struct):
    """Hashes of names, of 64 bits: two of 100,000 are the same in one of 3,000,000,000 cases."""

    current: set[int]  # seen in this period
    before: set[int]  # seen in the period before, and not since
    warned: bool = False


class SeriesVerdict(Struct, frozen=True):
    """What became of the names of one batch."""

    over: frozenset[int] = frozenset()  # places in the sequence of the names that are new and over the limit
    warn: bool = False  # for the first time in this period the account has more than WARN_AT of its limit
    untracked: int = 0  # so many names may be new or not: they came in, and nothing remembers them


_NONE = SeriesVerdict()


class Series:
    """The series of all accounts."""

    def __init__(self, limit: int, most: int, seconds: float) -> None:
        """`limit`: of one account. `most`: of all. A series not seen for `seconds` to twice `seconds` is forgotten."""
        self._limit, self._most, self._seconds = limit, most, seconds
        self._accounts: dict[str, _Known] = {}
        self._count = 0
        self._turn_at: float | None = None

    @property
    def count(self) -> int:
        """How many series are remembered, of all accounts."""
        return self._count

    def top(self, most: int) -> Sequence[tuple[str, int]]:
        """(account, number of series) of the accounts with most series, the largest first."""
        sizes = ((name, len(known.current) + len(known.before)) for name, known in self._accounts.items())
        return sorted(sizes, key=lambda one: (-one[1], one[0]))[:most]

    def see(self, account: str, names: Iterable[bytes], now: float) -> SeriesVerdict:
        """Take note of the names of a batch, in their order; `now` in seconds of a clock that only goes forward. Names
        over the limit are not remembered.
        """
        self._turn(now)
        known = self._accounts.get(account)
        hashes = [hash(name) for name in names]
        if known is None:
            known = self._accounts[account] = _Known(set(), set())
        elif known.current.issuperset(hashes):
            return _NONE
        return self._add(known, hashes)

    def _add(self, known: _Known, hashes: list[int]) -> SeriesVerdict:
        over: list[int] = []
        untracked = 0
        for at, one in enumerate(hashes):
            if one in known.current:
                continue
            if one in known.before:
                known.before.discard(one)
            elif len(known.current) + len(known.before) >= self._limit:
                over.append(at)
                continue
            elif self._count >= self._most:
                untracked += 1
                continue
            else:
                self._count += 1
            known.current.add(one)
        warn = not known.warned and len(known.current) + len(known.before) > WARN_AT * self._limit
        known.warned = known.warned or warn
        return SeriesVerdict(frozenset(over), warn, untracked)

    def _turn(self, now: float) -> None:
        """A period is over: series not seen in this period are forgotten, and accounts left without a series too."""
        if self._turn_at is None:
            self._turn_at = now + self._seconds
        if now < self._turn_at:
            return
        self._turn_at = now + self._seconds
        self._accounts = {name: _Known(set(), known.current) for name, known in self._accounts.items() if known.current}
        self._count = sum([len(known.before) for known in self._accounts.values()])
