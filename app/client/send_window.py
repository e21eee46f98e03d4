"""The batches of a stream between their making and their ack: which is to be sent next, and which are open.

Pure: no clock and no I/O; `now` is in seconds, of a clock that only goes forward.
"""

from collections.abc import Iterator
from heapq import heappop, heappush

from app.client.sent_batch import Acked, Item, SentBatch
from app.errors import WireError
from app.protobuf.metrics_pb2 import BatchAck


class SendWindow:
    """Keeps the order, whatever fails: a batch without an ack is sent again before any later batch."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, SentBatch]] = []  # a heap, by the number of the batch: a number stands once
        self._sent: dict[int, SentBatch] = {}  # on the stream of now

    def __len__(self) -> int:
        """Batches that are not acknowledged."""
        return len(self._waiting) + len(self._sent)

    @property
    def waiting(self) -> bool:
        """Whether there is a batch to send on this stream."""
        return bool(self._waiting)

    def put(self, batch: SentBatch) -> None:
        """Take another batch, to go where its number says."""
        heappush(self._waiting, (batch.number, batch))

    def next(self, now: float) -> SentBatch | None:
        """The next batch to send on this stream, which counts as sent at `now`; None: all are."""
        if not self._waiting:
            return None
        number, batch = heappop(self._waiting)
        batch.sent_at = now
        self._sent[number] = batch
        return batch

    def settle(self, ack: BatchAck) -> Acked | None:
        """The outcome of a batch; None: some of its items were put off, and it waits to be sent again.

        Raises WireError for an ack of no batch that was sent, or of items that its batch lacks.
        """
        batch = self._sent.get(ack.batch_id)
        if batch is None:
            raise WireError(f"an ack of batch {ack.batch_id}, which was not sent")
        acked = batch.settle(ack)
        del self._sent[ack.batch_id]
        if acked is None:
            self.put(batch)
        return acked

    def again(self) -> None:
        """The stream is gone: batches that were sent on it, and have no ack, are to be sent on the next."""
        for batch in self._sent.values():
            self.put(batch)
        self._sent.clear()

    def sent_since(self) -> float | None:
        """When the oldest batch without an ack was sent, by the clock of `next`; None: all have one."""
        return min((batch.sent_at for batch in self._sent.values()), default=None)

    def left(self) -> Iterator[Item]:
        """All items that are neither accepted nor refused, in order."""
        for _, batch in sorted([*self._sent.items(), *self._waiting]):
            yield from batch.left
