"""What the path needs of the world: one small Protocol a port, each with one real adapter and one fake."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from app.core.model import Record, Rejected, Row


class Batch(Protocol):
    """Records of one partition in offset order, with the ack that commits them."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int  # last offset + 1: what is committed once this batch is done
    records: Sequence[Record]

    async def ack(self) -> None:
        """Let the offset be committed. The last thing that is done with a batch, and only when all else is durable."""


class Source(Protocol):
    """Where batches come from; those of one partition come in order and without a gap."""

    def batches(self) -> AsyncIterator[Batch]: ...


class Stored(Protocol):
    """What the database made of one write: counted from its own answer."""

    rows: int  # newly stored
    duplicates: int  # were there already
    refused: Sequence[tuple[int, str]]  # (index into the rows given, the database's words): can never be stored


class Store(Protocol):
    """raw_telemetry. A write is one transaction: all rows durable, or none."""

    async def write(self, rows: Sequence[Row]) -> Stored:
        """Store rows; wait out an outage. Raises TransientError only when told to give up (rebalance, shutdown)."""


class DeadLetters(Protocol):
    """The dead-letter topic."""

    async def send(self, topic: str, partition: int, rejected: Sequence[Rejected]) -> None:
        """Return once the broker has acknowledged every one of them."""


class Outbox(Protocol):
    """The alert topic."""

    async def send(self, events: Sequence[tuple[bytes, bytes]]) -> None:
        """Send (key, alert event as JSON) in order; return once the broker has acknowledged all of them."""


class States(Protocol):
    """Per-device state, partitioned as the input topic."""

    def get(self, partition: int, key: bytes) -> bytes | None: ...

    async def put(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        """Return once the changelog holds them."""
