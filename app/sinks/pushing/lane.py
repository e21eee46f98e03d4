"""Records in; out, batches in the order of sending, and the outcome of each record once its batch is answered.

Pure: no clock and no I/O. A batch without an answer is sent again before all later batches, so no failure reorders the
readings of a device. A batch that the receiver refuses, or always fails on, is halved until the faulty record is alone.
A refusal of a single record counts at once. A failure on a single record counts only if the receiver takes other
records meanwhile: a record that makes a receiver fail delays its own device for a while, and no other device; a
receiver that fails on all records is unavailable.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from app.sinks.record import SinkRecord

TRIES = 3  # failures on the same batch before the batch is halved
STRIKES = 3  # failures on one record, each after other records were taken, before the record is refused
KNOWN = 100  # further records of its device that are refused after one failure each, before STRIKES applies again
ROW = 10  # consecutive failures, on any batch, after which sending pauses
DOUBTS = 1000  # most devices in doubt


class PushBatch(Struct, eq=False):
    """Records that are sent together, and are the same at every retry."""

    number: int  # from 1 in each lane; a batch that is halved becomes two batches with new numbers
    records: Sequence[SinkRecord]
    message: Any = None  # the encoded batch, once made
    failures: int = 0


class TakenCount(Struct, eq=False):
    """Records that a receiver has taken since the start, on any lane: a record taken on one lane proves that the
    receiver is available to all lanes.
    """

    records: int = 0


class _Doubt(Struct, eq=False):
    """A device whose first record that is not settled may be the record that the receiver fails on."""

    taken: int  # TakenCount.records at the last failure on this device
    strikes: int = 0
    known: int = 0  # how many more records are refused after one failure


class PushLane:
    """Batches of one sender. `batch` gives what to send; `settle`, `refuse`, `fail`, `single_out` take the outcome."""

    def __init__(self, most: int, most_bytes: int, taken: TakenCount | None = None) -> None:
        """A batch has at most `most` records and `most_bytes` of payloads; a larger payload is sent alone. Lanes to the
        same endpoint share `taken`.
        """
        self._most, self._most_bytes, self._taken = most, most_bytes, taken or TakenCount()
        self._waiting: deque[SinkRecord] = deque()
        self._batches: list[PushBatch] = []  # not settled
        self._doubts: dict[str, _Doubt] = {}  # by device
        self._number = self._row = 0
        self._one_by_one = 0  # number of batches, from the first, that are sent alone
        self.refused: list[tuple[SinkRecord, str]] = []  # until PushLanes.finish clears the list

    def __len__(self) -> int:
        """Records that are not settled."""
        return len(self._waiting) + sum(len(batch.records) for batch in self._batches)

    @property
    def doubtful(self) -> bool:
        """Whether the lane has records, all of devices in doubt."""
        return bool(self._doubts) and bool(len(self)) and all(one.key in self._doubts for one in self.records())

    def goes_alone(self, batch: PushBatch) -> bool:
        """Whether a batch is to be sent while no other batch is in flight, so that a failure is known to be its own."""
        return self._one_by_one > 0 or batch.records[0].key in self._doubts

    def add(self, record: SinkRecord) -> None:
        """Append a record."""
        self._waiting.append(record)

    def records(self) -> Iterator[SinkRecord]:
        """All records that are not settled, in the order of sending."""
        for batch in self._batches:
            yield from batch.records
        yield from self._waiting

    def batch(self, index: int) -> PushBatch | None:
        """The batch at `index` among the batches that are not settled; None: there are too few records."""
        while len(self._batches) <= index:
            records = self._cut()
            if not records:
                return None
            self._batches.append(self._numbered(records, TRIES - 1 if records[0].key in self._doubts else 0))
        return self._batches[index]

    def settle(self, batch: PushBatch, rejected: Mapping[int, str], later: Collection[int] = ()) -> None:
        """The receiver has taken a batch except the records at these indices: `rejected`, {index: why}, are never
        taken; `later` are sent again, before all later records.
        """
        left = [batch.records[place] for place in sorted(later)]
        self._replace(batch, [left] if left else [])
        self.refused += [(batch.records[place], why) for place, why in sorted(rejected.items())]
        taken = len(batch.records) - len(rejected) - len(left)
        self._taken.records += taken
        self._row = 0 if taken else self._row
        self._one_by_one = max(0, self._one_by_one - 1)
        if self._doubts and not left:
            self._doubts.pop(batch.records[0].key, None)  # a record in doubt is sent alone

    def refuse(self, batch: PushBatch, why: str) -> None:
        """The receiver would never take this batch, which was sent alone."""
        if len(batch.records) > 1:
            self._halve(batch, 0)
        else:
            self.settle(batch, {0: why})

    def fail(self, batch: PushBatch, why: str) -> bool:
        """The receiver failed on this batch, which was sent alone. Returns whether to send the next batch at once; if
        not, sending pauses.
        """
        batch.failures += 1
        self._row += 1
        if batch.failures < TRIES:
            return False
        if len(batch.records) > 1:
            self._halve(batch, TRIES - 1)
        elif self._doubt(batch, why):
            self._row = 0
            return True
        if self._row < ROW and not self.doubtful:
            return True
        self._row = 0
        return False

    def single_out(self, count: int) -> None:
        """The receiver refused one of the first `count` batches, or failed on one, and which is unknown: send these one
        by one.
        """
        self._one_by_one = max(self._one_by_one, count)

    def drop(self, partitions: Collection[int]) -> None:
        """Drop the records of these partitions that are not settled, and their refused records."""

        def kept(records: Sequence[SinkRecord]) -> list[SinkRecord]:
            return [record for record in records if record.partition not in partitions]

        self._waiting = deque(record for record in self._waiting if record.partition not in partitions)
        for batch in list(self._batches):
            left = kept(batch.records)
            if len(left) < len(batch.records):
                self._replace(batch, [left] if left else [], batch.failures)
        self.refused = [one for one in self.refused if one[0].partition not in partitions]
        keys = {record.key for record in self.records()}
        self._doubts = {key: doubt for key, doubt in self._doubts.items() if key in keys}

    def _cut(self) -> list[SinkRecord]:
        waiting, records, size = self._waiting, list[SinkRecord](), 0
        while waiting and len(records) < self._most:
            record = waiting[0]
            in_doubt = record.key in self._doubts
            size += len(record.payload)
            if records and (in_doubt or size > self._most_bytes):
                break
            records.append(waiting.popleft())
            if in_doubt:
                break
        return records

    def _numbered(self, records: Sequence[SinkRecord], failures: int = 0) -> PushBatch:
        self._number += 1
        return PushBatch(self._number, records, None, failures)

    def _replace(self, batch: PushBatch, parts: Sequence[Sequence[SinkRecord]], failures: int = 0) -> None:
        """Put batches of `parts` in the place of a batch, unless that batch was dropped meanwhile."""
        at = next((n for n, one in enumerate(self._batches) if one is batch), None)
        if at is not None:
            self._batches[at : at + 1] = [self._numbered(part, failures) for part in parts]

    def _halve(self, batch: PushBatch, failures: int) -> None:
        middle = len(batch.records) // 2
        self._replace(batch, [batch.records[:middle], batch.records[middle:]], failures)
        self._one_by_one += 1

    def _doubt(self, batch: PushBatch, why: str) -> bool:
        """Either the single record of a batch is faulty, or the receiver is unavailable: the record is faulty if the
        receiver takes other records meanwhile. Returns whether the record is refused now.
        """
        (record,) = batch.records
        taken = self._taken.records
        doubt = self._doubts.setdefault(record.key, _Doubt(taken))
        if taken > doubt.taken:
            doubt.taken = taken
            doubt.strikes = min(STRIKES, doubt.strikes + 1)
            doubt.known = KNOWN if doubt.strikes == STRIKES else 0
        if len(self._doubts) > DOUBTS:
            del self._doubts[next(iter(self._doubts))]
        if not doubt.known:
            self._put_last(record.key)
            return False
        doubt.known -= 1
        self.settle(batch, {0: f"{why}, repeatedly, while it takes other records"})
        self._doubts[record.key] = doubt  # the device stays in doubt until one of its records is taken
        return True

    def _put_last(self, key: str) -> None:
        """Move the records of this device to the end, in their order."""
        records = list(self.records())
        self._batches.clear()
        self._waiting = deque(sorted(records, key=_is_of(key)))


def _is_of(key: str) -> Callable[[SinkRecord], bool]:
    return lambda record: record.key == key
