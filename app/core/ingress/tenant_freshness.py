"""How fresh each tenant's data is: in, what was stored; out, the newest reading's age, for the tenants that send most.

Anybody may invent tenants, so their number is bounded: the tenants that count for least are forgotten first
(HeavyHitters), and a new tenant takes no place of a tenant heard of for longer. A reading costs nothing: a sample of
each batch is looked at, and no more readings a second than LOOKS, which is all readings on a worker that is not busy.
"""

from collections.abc import Sequence
from heapq import nlargest
from math import ceil, inf

from app.core.ingress.heavy_hitters import HeavyHitters
from app.core.model.arrival import arrived_ms
from app.core.model.records import Record, Row

TENANTS = 10_000  # known at a time, 3 MB
LOOKS, OF_A_BATCH = 1_000, 32  # readings looked at: a second, and in one batch; each takes 1 to 2 us
HALF_LIFE = 600.0  # seconds after which a reading counts for half: that is what lately means
NEW_SECONDS = 600.0  # so long a tenant is new
OLD = 20  # half-lives after which nothing is left
FORGET_SECONDS = 3600.0  # without a reading: then a tenant is gone, and no longer late
SWEEP_SECONDS = 60.0  # between two looks for tenants that are gone
OFTEN = 3.0  # readings looked at lately; of a tenant heard of less often nothing can be said
NAME_MAX = 64  # characters
OTHER = "other"


class _Tenant:
    """What is known of one tenant; times are by `clock`."""

    __slots__ = ("epoch", "heard", "newest", "since")

    def __init__(self, since: float) -> None:
        self.since = self.heard = since  # when the tenant was heard of first, and last
        self.epoch, self.newest = -1, -inf  # when the newest reading stored in that epoch came in


class TenantFreshness:
    """The tenants of one worker, which knows what it has stored itself, of the partitions it has now.

    Times are seconds of a clock that is never set (`clock`), and of the time of day (`now`).
    """

    def __init__(self, places: int) -> None:
        """`places`: how many tenants are named; 0: nothing is kept."""
        self._places = places
        self._readings = HeavyHitters(TENANTS)  # looked at, by tenant
        self._tenants: dict[str, _Tenant] = {}
        self._epoch = -1
        self._looks, self._looked_at = float(LOOKS), -inf
        self._halved_at: float | None = None
        self._forgot_at = -inf

    def stored(self, epoch: int, rows: Sequence[Row], sources: Sequence[Record], clock: float, now: float) -> None:
        """Rows of a batch are in the database; `sources` are their records.

        In another epoch the worker may have other partitions: nothing is known any more of the tenants heard of before.
        """
        self._epoch = epoch
        if not (looks := self._may_look(len(rows), clock)):
            return
        self._let_age(clock)
        every = ceil(len(rows) / looks)
        last: dict[str, int] = {}
        counts: dict[str, int] = {}
        for index in range((len(rows) - 1) % every, len(rows), every):  # the last row is among them
            name = rows[index][1][:NAME_MAX]
            last[name] = index
            counts[name] = counts.get(name, 0) + 1
        now_ms = int(now * 1000)
        for name, index in last.items():
            came = clock - max(0.0, now - arrived_ms(sources[index], now_ms) / 1000)
            self._readings.add(name, counts[name])
            if (tenant := self._tenants.get(name)) is None:
                tenant = self._tenants[name] = _Tenant(clock)
            tenant.newest = max(came, tenant.newest) if tenant.epoch == epoch else came
            tenant.heard, tenant.epoch = clock, epoch
        self._forget(clock)

    def show(self, clock: float) -> dict[str, float]:
        """Seconds since the newest stored reading came in, by tenant; and of all the others the largest, as `other`."""
        if not self._places:
            return {}
        self._let_age(clock)
        self._forget(clock)
        sums, gone, old = self._readings.sums, clock - FORGET_SECONDS, clock - NEW_SECONDS
        often = [
            (tenant.since <= old, count, name)
            for name, tenant in self._tenants.items()
            if tenant.epoch == self._epoch and tenant.heard >= gone and (count := sums.get(name, 0.0)) >= OFTEN
        ]
        age = {name: clock - self._tenants[name].newest for _, _, name in often}
        best = [name for _, _, name in nlargest(self._places, often)]
        shown = {name if name != OTHER else f"{OTHER} (a user)": age.pop(name) for name in best}
        if age:
            shown[OTHER] = max(age.values())
        return shown

    def _may_look(self, rows: int, clock: float) -> int:
        """How many of a batch's readings are looked at."""
        if not self._places:
            return 0
        self._looks = min(float(LOOKS), self._looks + (clock - self._looked_at) * LOOKS)
        self._looked_at = clock
        looks = min(rows, OF_A_BATCH, int(self._looks))
        self._looks -= looks
        return looks

    def _let_age(self, clock: float) -> None:
        """What was long ago counts for less."""
        if self._halved_at is None:
            self._halved_at = clock
        lives = int((clock - self._halved_at) / HALF_LIFE)
        for _ in range(min(OLD, lives)):
            self._readings.halve()
        self._halved_at += lives * HALF_LIFE

    def _forget(self, clock: float) -> None:
        """Forget the tenants that are gone, or count for nothing."""
        if clock - self._forgot_at < SWEEP_SECONDS and len(self._tenants) <= 2 * TENANTS:
            return
        self._forgot_at = clock
        known, gone = self._readings.sums, clock - FORGET_SECONDS
        self._tenants = {name: one for name, one in self._tenants.items() if one.heard >= gone and name in known}
