"""What the records of one batch have in common while they are processed, one after another."""

from math import inf

from app.core.batch.output import BatchOutput
from app.core.model.records import Record
from app.core.processing.cached_device import WEIGHS_ONE, CachedDevice, PartitionState

ENDS_SLICE = 1 << 30  # more records than any slice has


class BatchContext:
    """A batch's output so far, its partition, and the devices whose state has changed in it."""

    __slots__ = ("begin", "clock", "cut", "most", "moved", "output", "partition")

    def __init__(self, output: BatchOutput, partition: PartitionState, clock: float, most: float = inf) -> None:
        """`clock` is in seconds since 1970; with an output of `most` bytes the batch ends."""
        self.output, self.begin, self.partition, self.clock = output, output.begin, partition, clock
        self.most = most
        self.cut: int | None = None  # offset of the first record that is left to the next batch; None: there is none
        self.moved: list[CachedDevice] = []

    def ends_before(self, record: Record) -> bool:
        """Whether the output is full; the batch is then cut before this record."""
        if self.output.weight < self.most:
            return False
        self.cut = record.offset
        return True

    def steps(self, count: int) -> int:
        """As how many records a record counts that takes as long as `count`: none follows in this slice once the output
        is full.
        """
        return count if self.output.weight < self.most else ENDS_SLICE

    def move(self, device: CachedDevice) -> None:
        """The device's state has changed in this batch."""
        if device.moved_in != self.begin:
            device.moved_in = self.begin
            self.moved.append(device)
            if device.weight > 1:
                self.output.weight += device.weight * WEIGHS_ONE
