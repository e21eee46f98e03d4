"""How fresh each tenant's data is: in, what was stored; out, the age of the newest reading of those that send most.

Anybody may invent tenants, so their number is bounded: those that count for least are forgotten first (HeavyHitters),
and a new one takes no place of one that was heard of for longer. A reading costs nothing: a sample of each batch is
looked at, and no more readings a second than LOOKS, which is all of them on a worker that is not busy.
"""

from collections.abc import Sequence
from heapq import nlargest
from math import ceil, inf

from app.core.ingress.heavy_hitters import HeavyHitters
from app.core.model.arrival import arrived_ms
from app.core.model.records import Record, Row

TENANTS = 10_000  # known at a time, 3 MB
LOOKS, OF_A_BATCH = 2_000, 64  # readings looked at: a second, and in one batch; each takes 1 us at most
HALF_LIFE = 600.0  # seconds after which a reading counts for half: that is what lately means
NEW_SECONDS = 600.0  # so long a tenant is new
OLD = 20  # half-lives after which nothing is left
FORGET_SECONDS = 3600.0  # without a reading: then a tenant is gone, and no longer late
OFTEN = 3.0  # readings looked at lately; of a tenant heard of less often nothing can be said
NAME_MAX = 64  # characters
OTHER = "other"


class TenantFreshness:
    """Of one worker: it knows what it has stored itself, of the partitions it has now.

    Times are seconds of a clock that is never set (`clock`), and of the time of day (`now`).
    """

    def __init__(self, places: int) -> None:
        """`places`: how many tenants are named; 0: nothing is kept."""
        self._places = places
        self._readings = HeavyHitters(TENANTS)  # looked at, by tenant
        self._newest: dict[str, float] = {}  # by tenant: when its newest reading came in, by `clock`
        self._since: dict[str, float] = {}  # by tenant: when it was heard of first
        self._epoch = -1
        self._looks, self._looked_at = float(LOOKS), -inf
        self._halved_at: float | None = None

    def stored(self, epoch: int, rows: Sequence[Row], sources: Sequence[Record], clock: float, now: float) -> None:
        """Rows of a batch are in the database; `sources` are their records.

        In another epoch the partitions may be other ones: nothing is known any more of who was heard of before.
        """
        if epoch != self._epoch:
            self._epoch = epoch
            self._newest.clear()
        if not (looks := self._may_look(len(rows), clock)):
            return
        self._let_age(clock)
        every = ceil(len(rows) / looks)
        last: dict[str, int] = {}
        counts: dict[str, int] = {}
        for index in range((len(rows) - 1) % every, len(rows), every):  # the last one is among them
            tenant = rows[index][1][:NAME_MAX]
            last[tenant] = index
            counts[tenant] = counts.get(tenant, 0) + 1
        for tenant, index in last.items():
            came = clock - max(0.0, now - arrived_ms(sources[index], int(now * 1000)) / 1000)
            self._newest[tenant] = max(came, self._newest.get(tenant, -inf))
            self._since.setdefault(tenant, clock)
            self._readings.add(tenant, counts[tenant])
        if len(self._since) > 2 * TENANTS:
            self._forget(clock)

    def show(self, clock: float) -> dict[str, float]:
        """Seconds since the newest stored reading came in, by tenant; and of all the others the largest, as `other`."""
        if not self._places:
            return {}
        self._let_age(clock)
        self._forget(clock)
        sums, since = self._readings.sums, self._since
        often = {tenant: sums[tenant] for tenant in self._newest if sums[tenant] >= OFTEN}
        best = nlargest(self._places, often, key=lambda one: (clock - since[one] >= NEW_SECONDS, often[one]))
        shown = {one if one != OTHER else f"{OTHER} (a user)": clock - self._newest[one] for one in best}
        if rest := often.keys() - set(best):
            shown[OTHER] = clock - min(self._newest[one] for one in rest)
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
        """Those that are gone, or count for nothing."""
        known, oldest = self._readings.sums, clock - FORGET_SECONDS
        self._newest = {one: at for one, at in self._newest.items() if at >= oldest and one in known}
        self._since = {one: at for one, at in self._since.items() if one in known}
