"""What the records of one batch have in common while they are processed, one after another."""

from app.core.batch.output import BatchOutput
from app.core.processing.cached_device import CachedDevice, PartitionState


class BatchContext:
    """A batch's output so far, its partition, and the devices whose state has changed in it."""

    __slots__ = ("clock", "end", "moved", "output", "partition")

    def __init__(self, output: BatchOutput, partition: PartitionState, clock: float) -> None:
        """`clock` is in seconds since 1970."""
        self.output, self.end, self.partition, self.clock = output, output.end, partition, clock
        self.moved: list[CachedDevice] = []

    def move(self, device: CachedDevice) -> None:
        """The device's state has changed in this batch."""
        if device.moved_in != self.end:
            device.moved_in = self.end
            self.moved.append(device)
