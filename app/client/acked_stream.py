"""What a way to a gateway does with batches: sends them in order, again if need be, until each has its ack."""

from collections.abc import Sequence
from typing import Protocol

from app.client.sent_batch import Acked, Item, SentBatch


class AckedStream(Protocol):
    """`put` may be called by one task while another waits for `next_ack`. To be closed."""

    async def put(self, batch: SentBatch) -> None:
        """Take a batch, behind the batches before it, once there is room. Raises TransientError, PermanentError: the
        stream is over, and `left` says what has no ack.
        """

    def end(self) -> None:
        """Note that nothing more will be put."""

    async def next_ack(self) -> Acked | None:
        """What became of a batch; None: of all that was put, and nothing more comes. Raises as `put`."""

    def left(self) -> Sequence[Item]:
        """The items without an ack, in order."""

    async def close(self) -> None:
        """End the stream at once; what has no ack by now may be in Kafka or not."""
