"""Which batches may go straight into the table: in, what became of the batches before; out, whether the next one may.

COPY into the table itself costs the database half, but fails with the first row that is there already, and what it has
copied by then stays as dead rows. So a batch goes straight in only where a duplicate is unlikely. Duplicates come in
runs: after an assignment, a seek or a crash, with a replay, with a device that sends again. Batches of a partition are
staged from the beginning of an epoch until one of them was clean; and after a batch that was not clean until a number
of batches in a row were, which doubles while the next failure comes soon.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from app.core.model.records import Row

FIRST = 8  # clean batches in a row after a failure
MOST = 256  # the same, however soon one failure follows another

_SEQUENCE, _IDENTITY, _KEY = itemgetter(3), itemgetter(1, 2, 3), itemgetter(0, 1, 2, 3)  # of the primary key


class PartitionEpoch(NamedTuple):
    """Where the rows of a write come from: a partition, and what counts its seeks and rebalances (Batch.epoch)."""

    partition: int
    epoch: int


class StagedRun(NamedTuple):
    """What a partition's batches of an epoch have shown."""

    left: int = 1  # clean batches until the next may go straight in
    wait: int = 0  # what `left` was set to by the last failure; 0: none has failed
    clean: int = 0  # batches since `left` became 0

    def after(self, *, clean: bool) -> "StagedRun":
        """What the next batch leads to: clean, if it went in whole and had no duplicate, or not."""
        if clean:
            return self._replace(left=self.left - 1) if self.left else self._replace(clean=self.clean + 1)
        if self.left:
            return self._replace(left=max(self.wait, 1))
        wait = min(2 * self.wait, MOST) if self.clean < self.wait else FIRST
        return StagedRun(wait, wait)


class CopyPolicy:
    """Remembers what the batches of each partition have shown, in the partition's newest epoch."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[int, StagedRun]] = {}  # by partition: the epoch, and its run

    def goes_direct(self, origin: PartitionEpoch | None) -> bool:
        """Whether rows from there may go straight into the table; those from nowhere known never do."""
        return origin is not None and self._run(origin).left == 0

    def answered(self, origin: PartitionEpoch | None, *, clean: bool) -> None:
        """A batch from there is stored. `clean`: it had no duplicate but of its own rows, and nothing of it failed."""
        if origin is None or origin.epoch < self._runs.get(origin.partition, (origin.epoch,))[0]:
            return  # of an epoch that is over: nothing that comes now was read then
        self._runs[origin.partition] = origin.epoch, self._run(origin).after(clean=clean)

    def _run(self, origin: PartitionEpoch) -> StagedRun:
        epoch, run = self._runs.get(origin.partition, (origin.epoch, StagedRun()))
        return run if epoch == origin.epoch else StagedRun()


def distinct(rows: Sequence[Row]) -> Sequence[Row] | None:
    """The rows without those that are equal to a row before them; the same object where no two have the same key.

    None where two rows have the same key and differ: the database might refuse the second, and says so only if it gets
    to see the row. Sequence numbers alone tell most batches apart, in a twentieth of the time that whole keys take.
    """
    count = len(rows)
    if len(set(map(_SEQUENCE, rows))) == count or len(set(map(_IDENTITY, rows))) == count:
        return rows
    first: dict[object, Row] = {}
    for row in rows:
        if first.setdefault(_KEY(row), row) != row:
            return None
    return rows if len(first) == count else list(first.values())
