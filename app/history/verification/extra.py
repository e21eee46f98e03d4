"""Rows that no record has made: in, the table and the keys of the records that were read; out, rows without a record.

A row of the event time t comes from a record that arrived at t - IOT_TIME_FUTURE_MAX or later: so only rows are looked
at whose record cannot have been before the range. It may be behind the range, or in another partition: rows that are
left are looked for there, before they count.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from app.core.model.arrival import moment_of
from app.core.model.keys import device_key
from app.core.model.times import micros
from app.history.chunks import chunks
from app.history.table_at_hand import TableAtHand
from app.history.verification.ledger import ExampleList, ExtraRow
from app.history.verification.records import RecordCheck, utc
from app.history.verification.store import VerifyStore, stored_key
from app.history.verification.watch import SearchWatch
from app.kafka.messages import key_partition
from app.kafka.reading.offset_ranges import PartitionRange
from app.kafka.reading.record_log import RecordLog
from app.postgres.queries.telemetry_rows import RowKey, key_columns

SKEW = timedelta(minutes=1)  # by which clocks of gateways may differ


class RowWindow(Struct, frozen=True):
    """Event times of rows that the range must have the records of."""

    since: dict[int, datetime]  # by partition of the topic: from then on
    until: datetime  # before then
    partitions: frozenset[int]  # of the range

    @property
    def begin(self) -> datetime:
        """The earliest time of any partition."""
        return min(self.since.values())

    def takes(self, row: RowKey) -> bool:
        """Whether the range must have the record of a row. A row does not say whether its device is one of users/* or
        of iot/*, whose records lie in the partition of the node: the time must be right for both.
        """
        time, user_id, device_id, _ = row
        keys = (device_key(user_id, device_id), user_id.encode("utf-8", "surrogatepass"))
        places = {key_partition(key, len(self.since)) for key in keys}
        return bool(places & self.partitions) and time >= max(self.since[place] for place in places)


def window_of(
    floors: Mapping[int, int], starts: Mapping[int, int], partitions: Collection[int], ahead: timedelta, until: datetime
) -> RowWindow | None:
    """The window of a range that was read; None when nothing says how far back it goes.

    `floors`: by partition, the time (milliseconds since 1970) from which on no record was before the range; `starts`:
    the first offsets that Kafka has, of all partitions of the topic; `partitions`: those of the range; `ahead`: how far
    a reading may be ahead of its arrival.
    """
    known = {partition: moment_of(ms) + ahead + SKEW for partition, ms in floors.items()}
    if not known:
        return None
    since = dict[int, datetime]()
    for partition, start in starts.items():
        if partition in known:
            since[partition] = known[partition]
        elif start == 0:  # nothing was ever removed: as far back as any
            since[partition] = min(known.values())
        else:  # what retention has emptied says nothing of its rows
            since[partition] = until if partition in partitions else max(known.values())
    return RowWindow(since, until, frozenset(partitions))


class ExtraRows:
    """The search for extra rows of one verification."""

    def __init__(
        self, at_hand: TableAtHand, store: VerifyStore, check: RecordCheck, window: RowWindow, user: str | None
    ) -> None:
        """`user`: whose rows are looked at; None: all."""
        self._at_hand, self._store, self._check = at_hand, store, check
        self._window, self._user = window, user

    async def look(
        self, log: RecordLog, ranges: Mapping[int, PartitionRange], examples: int, watch: SearchWatch
    ) -> ExampleList[ExtraRow] | None:
        """The rows without a record, `examples` of them by name; None when it was stopped. Raises KAFKA_ERRORS,
        TransientError when the database is away, PermanentError when it refuses or the store cannot be written.
        """
        if not await self._scan(watch):
            return None
        if self._store.candidates() and not await self._search(log, ranges, watch):
            return None
        first = self._store.first_candidates(examples)
        named = [ExtraRow(utc(time), user, device, number) for time, user, device, number in first]
        return ExampleList(self._store.candidates(), named)

    async def _scan(self, watch: SearchWatch) -> bool:
        """Keep the rows of the window that no reading of the range has made. False: stopped."""
        window, count = self._window, 0
        async for rows in self._at_hand.pages(key_columns(), window.begin, window.until, self._user):
            known = self._store.readings(micros(rows[0][0]), micros(rows[-1][0]))
            keys: list[RowKey] = [(row[0], row[1], row[2], row[3]) for row in rows]
            self._store.add_candidates(key for key in keys if stored_key(*key) not in known and window.takes(key))
            count += len(rows)
            watch.seen("rows of the table", count)
            if watch.stopped:
                return False
        return True

    async def _search(self, log: RecordLog, ranges: Mapping[int, PartitionRange], watch: SearchWatch) -> bool:
        """Drop the candidates whose record is outside of the ranges: behind them, or in other partitions."""
        ends = await log.ends()  # after the rows were read: what has come since is before this end
        early = self._window.begin - self._check.ahead - SKEW
        since = await log.since(micros(early) // 1000, ends)
        begin = {tp: ranges[tp.partition].end if tp.partition in ranges else since[tp] for tp in log.tps}
        count = 0
        async for records in chunks(log, begin, ends):
            self._store.drop_candidates(
                stored_key(one.time, one.user_id, one.device_id, one.sequence_id)
                for one in self._check.readings(records)
            )
            count += len(records)
            watch.seen("records outside of the range", count)
            if watch.stopped:
                return False
            if not self._store.candidates():
                break
        return True
