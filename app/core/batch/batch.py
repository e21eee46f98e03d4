"""A batch of records of one partition, as the pipeline takes it."""

from collections.abc import Sequence
from typing import Protocol

from app.core.model.records import Record


class Batch(Protocol):
    """Records of one partition in offset order, with the ack that commits them."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int  # last offset + 1: what is committed once this batch is done
    records: Sequence[Record]
    epoch: int  # counts seeks and rebalances: states read in one epoch mean nothing in the next

    def current(self) -> bool:
        """False once a rebalance or seek has made the batch someone else's: drop it un-acked."""

    async def ack(self) -> None:
        """Let the offset be committed: the last step of a batch, and only when everything else is durable."""
