"""Records in; out, batches to be sent in this order, and what becomes of each record once a batch is answered.

Pure: no clock and no I/O. What is not answered is sent again before anything that comes after it, so no failure puts a
device's readings out of order. A receiver that refuses a batch, or that always fails over it, is given the halves of
it, until the record stands alone at fault. A refusal of this one record counts at once. That a receiver fails over it
counts when it takes others meanwhile: a record that makes a receiver fail holds up its own device for a while, and
nobody else; a receiver that fails over all records is away.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from app.sinks.record import SinkRecord

TRIES = 3  # failures of a receiver over the same batch, until it is halved
STRIKES = 3  # failures over one record, each after others were taken, until it is refused
KNOWN = 100  # more records of its device are refused after one failure each, until others have to be taken again
ROW = 10  # failures one after another, over whatever it is: then the receiver is left alone for a while
DOUBTS = 1000  # devices of which that is remembered


class PushBatch(Struct, eq=False):
    """Records that are sent together, the same ones at every try."""

    number: int  # 1 of the first of a lane, and so on: a batch that was halved becomes two new ones
    records: Sequence[SinkRecord]
    message: Any = None  # what is sent, once it is made
    failures: int = 0


class TakenCount(Struct, eq=False):
    """Records that a receiver has taken, ever: what it takes of one lane proves that it is there for all of them."""

    records: int = 0


class _Doubt(Struct, eq=False):
    """A device that may have the record over which the receiver fails: the first one that is not settled."""

    taken: int  # records that the receiver had taken, when it failed over this one last
    strikes: int = 0
    known: int = 0  # how many more are refused after one failure


class PushLane:
    """Batches of one sender. `batch` gives what to send; one of the four verbs says what came of it."""

    def __init__(self, most: int, most_bytes: int, taken: TakenCount | None = None) -> None:
        """`most` records, and `most_bytes` of their payloads, go into one batch; a larger payload goes alone. Lanes to
        the same endpoint share `taken`.
        """
        self._most, self._most_bytes, self._taken = most, most_bytes, taken or TakenCount()
        self._waiting: deque[SinkRecord] = deque()
        self._batches: list[PushBatch] = []  # made, and not settled
        self._doubts: dict[str, _Doubt] = {}  # by device
        self._number = self._row = 0
        self._one_by_one = 0  # batches, from the first on
        self.refused: list[tuple[SinkRecord, str]] = []  # until somebody takes them off

    def __len__(self) -> int:
        """Records that are not settled."""
        return len(self._waiting) + sum(len(batch.records) for batch in self._batches)

    @property
    def doubtful(self) -> bool:
        """Whether there is something to send, and all of it is of devices in doubt."""
        return bool(self._doubts) and bool(len(self)) and all(one.key in self._doubts for one in self.records())

    def goes_alone(self, batch: PushBatch) -> bool:
        """Whether a batch is to be sent with nothing else under way, so that a failure is known to be its own."""
        return self._one_by_one > 0 or batch.records[0].key in self._doubts

    def add(self, record: SinkRecord) -> None:
        """Take a record, behind the others."""
        self._waiting.append(record)

    def records(self) -> Iterator[SinkRecord]:
        """All that is not settled, in the order in which it is to be sent."""
        for batch in self._batches:
            yield from batch.records
        yield from self._waiting

    def batch(self, index: int) -> PushBatch | None:
        """The batch behind `index` others that are not settled; None: there is nothing for it."""
        while len(self._batches) <= index:
            records = self._cut()
            if not records:
                return None
            self._batches.append(self._numbered(records, TRIES - 1 if records[0].key in self._doubts else 0))
        return self._batches[index]

    def settle(self, batch: PushBatch, rejected: Mapping[int, str], later: Collection[int] = ()) -> None:
        """The receiver has taken a batch but for those records (by their place): `rejected` for ever, and why; `later`
        are to be sent again, before what comes after them.
        """
        left = [batch.records[place] for place in sorted(later)]
        self._replace(batch, [left] if left else [])
        self.refused += [(batch.records[place], why) for place, why in sorted(rejected.items())]
        taken = len(batch.records) - len(rejected) - len(left)
        self._taken.records += taken
        self._row = 0 if taken else self._row
        self._one_by_one = max(0, self._one_by_one - 1)
        if self._doubts and not left:
            self._doubts.pop(batch.records[0].key, None)  # a record in doubt goes alone

    def refuse(self, batch: PushBatch, why: str) -> None:
        """The receiver would never take this batch as it is, which was sent alone."""
        if len(batch.records) > 1:
            self._halve(batch, 0)
        else:
            self.settle(batch, {0: why})

    def fail(self, batch: PushBatch, why: str) -> bool:
        """The receiver failed over this batch, which was sent alone; whether to go on at once, with whatever is next.
        If not, it is to be left alone for a while.
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
        """The receiver refused one of `count` batches, or failed over it, and nobody knows which: send them one by
        one.
        """
        self._one_by_one = max(self._one_by_one, count)

    def drop(self, partitions: Collection[int]) -> None:
        """Forget what is not settled of these partitions, and what was refused of them."""

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
        """Other batches in the place of one; one that is not there any more was dropped meanwhile."""
        at = next((n for n, one in enumerate(self._batches) if one is batch), None)
        if at is not None:
            self._batches[at : at + 1] = [self._numbered(part, failures) for part in parts]

    def _halve(self, batch: PushBatch, failures: int) -> None:
        middle = len(batch.records) // 2
        self._replace(batch, [batch.records[:middle], batch.records[middle:]], failures)
        self._one_by_one += 1

    def _doubt(self, batch: PushBatch, why: str) -> bool:
        """The record of a batch is at fault, or the receiver is away: what it takes of others meanwhile will tell.
        Whether it is refused now.
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
        self.settle(batch, {0: f"{why}, again and again, while it takes others"})
        self._doubts[record.key] = doubt  # its next ones, too, until one of them is taken
        return True

    def _put_last(self, key: str) -> None:
        """All others go before what there is of this device, which keeps its order."""
        records = list(self.records())
        self._batches.clear()
        self._waiting = deque(sorted(records, key=_is_of(key)))


def _is_of(key: str) -> Callable[[SinkRecord], bool]:
    return lambda record: record.key == key
