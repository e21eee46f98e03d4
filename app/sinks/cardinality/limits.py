"""The limits on the series of a sink: records in; out, the same records without the values of new series over a limit.

A known series is never dropped. Values over a limit are dropped one by one: a record is dropped only when none of its
values is left.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import nsmallest
from typing import Any, NamedTuple

import structlog
from msgspec import Struct

from app.core.ingress.heavy_hitters import HeavyHitters
from app.core.schema.schema import Schema
from app.sinks.cardinality.exact import KnownSeries
from app.sinks.cardinality.sketch import SeriesSketch
from app.sinks.fields import names_of, without
from app.sinks.record import SinkRecord

log = structlog.get_logger()

WARN_AT = 0.8  # of a limit
WARN_SECONDS = 60.0
SINK, TENANT = "sink", "tenant"
NESTED = '":{'  # in the JSON of a reading's other fields: an object, each field of which is a series


class SeriesId(NamedTuple):
    """One series."""

    user_id: str
    device: str  # the device key of SinkRecord
    field: str


class SeriesBounds(Struct, frozen=True):
    """Most series of a sink and of one user, 0: no limit; `drop` False: values over a limit pass, and are counted."""

    of_sink: int = 100_000
    of_tenant: int = 100_000
    drop: bool = True

    def hit(self, count: int, of_user: int) -> str | None:
        """The limit that one more series would exceed: SINK, TENANT or None."""
        if self.of_sink and count >= self.of_sink:
            return SINK
        return TENANT if self.of_tenant and of_user >= self.of_tenant else None


class SeriesLimit:
    """The limits of one sink, and its known series."""

    def __init__(self, sink: str, bounds: SeriesBounds, schema: Schema, clock: Callable[[], float]) -> None:
        """`clock` returns monotonic seconds."""
        self._sink, self._bounds, self._clock = sink, bounds, clock
        self._columns = {one.name: one.fields[0] for one in schema.columns}
        self._names = tuple(self._columns)
        self.known, self.sketch = KnownSeries(self._names), SeriesSketch()
        self.fresh: list[SeriesId] = []  # new series that are in no log yet
        self.over: Counter[str] = Counter()  # values over a limit since the start, by limit
        self.offenders = HeavyHitters()  # users, by their values over a limit
        self._warned: set[str] = set()  # users above WARN_AT of their limit; the empty name is the sink
        self._warned_at, self._unreported = float("-inf"), 0

    def know(self, series: SeriesId) -> None:
        """Add a series that an earlier process or another process of the same sink has admitted."""
        self.known.add(*series)

    def admit(self, records: Sequence[SinkRecord]) -> list[SinkRecord]:
        """The records that the sink is given, in their order."""
        known_of, found = self.known.devices.get, list[SinkRecord]()
        add = found.append
        for record in records:  # loops instead of set operations, which take three times as long
            reading = record.reading
            if reading is None:
                add(record)
                continue
            one = known_of(record.key)
            if one is not None and NESTED not in reading.extra_json:
                names = one.names
                for name in reading.extra:
                    if name not in names:
                        break
                else:
                    for column in one.missing:
                        if getattr(reading, column) is not None:
                            break
                    else:
                        add(record)
                        continue
            admitted = self._looked_at(record)
            if admitted is not None:
                add(admitted)
        return found

    def _looked_at(self, record: SinkRecord) -> Any:
        """The record with the values that pass, None when no value does; new series within the limits are added."""
        known, user, device = self.known, record.user_id, record.key
        names = names_of(record.reading, self._names)
        over: dict[str, str] = {}
        for name in names:
            if known.knows(device, name):
                continue
            limit = self._bounds.hit(known.count, known.of_user(user))
            if limit:
                over[name] = limit
            else:
                known.add(user, device, name)
                self.fresh.append(SeriesId(user, device, name))
                self._warn_early(user)
        if not over:
            return record
        self._count_over(record, over)
        if not self._bounds.drop:
            return record
        return without(record, over, self._columns) if len(over) < len(names) else None

    def _count_over(self, record: SinkRecord, over: dict[str, str]) -> None:
        user = record.user_id
        self.over.update(over.values())
        self.offenders.add(user, len(over))
        for name in over:
            self.sketch.add(user, record.key, name)
        self._unreported += len(over)
        if self._clock() - self._warned_at < WARN_SECONDS:
            return
        name, limit = next(iter(over.items()))
        bound = self._bounds.of_sink if limit == SINK else self._bounds.of_tenant
        log.warning(
            "Cardinality limit exceeded",
            sink=self._sink,
            limit=f"{limit}: {bound}",
            user=self.offenders.top(1)[0][0],
            series=f"{record.key} {name}",
            values=self._unreported,
            outcome="dropped" if self._bounds.drop else "let through",
            cure="fewer fields or devices, or a higher IOT_SINK_CARDINALITY_MAX or _TENANT_MAX",
        )
        self._warned_at, self._unreported = self._clock(), 0

    def _warn_early(self, user: str) -> None:
        known, bounds = self.known, self._bounds
        for name, count, most in (("", known.count, bounds.of_sink), (user, known.of_user(user), bounds.of_tenant)):
            if most and count > WARN_AT * most and name not in self._warned:
                self._warned.add(name)
                log.warning("cardinality_near_limit", sink=self._sink, user=name or None, series=count, limit=most)

    @property
    def count(self) -> int:
        """The number of series: the known series, and an estimate of the series over the limit."""
        return self.known.count + self.sketch.estimate

    def top(self, most: int) -> list[tuple[str, int]]:
        """(user, number of series) of the users with most, estimated series over a limit included."""
        known, over = self.known.of_users, self.sketch.of_users
        counts = [(user, count + over.get(user, 0)) for user, count in known.items()]
        counts += [(user, count) for user, count in over.items() if user not in known]
        return nsmallest(most, counts, key=lambda one: (-one[1], one[0]))  # a sort of 100,000 users takes 0.1 s
