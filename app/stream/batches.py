"""Runs of records as Faust messages: their limits, their type, and what Faust's consumer does for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import ConsumerRecord
from faust.types import TP, ConsumerMessage

# What a ConsumerRecord with key, headers and their tuples takes beside its payload (measured with sys.getsizeof).
RECORD_OVERHEAD = 600


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How records of `topic` are cut into batches and how many of them may wait.

    A partition is not fetched while `partition_bytes` of its batches, or `buffer_bytes` in all, are un-acked (estimated
    memory; 5,000 records of 135 bytes count as 3.7 MB, so two such batches of a partition overlap).
    """

    topic: str
    max_rows: int = 5000
    max_bytes: int = 1 << 20
    buffer_bytes: int = 64 << 20
    partition_bytes: int = 4 << 20


class BatchMessage(ConsumerMessage):
    """One run of records of one partition. `value` is the list of aiokafka ConsumerRecord."""

    first_offset: int
    next_offset: int
    weight: int
    epoch: int
    in_work: bool = False  # taken by the pipeline: a batch that an outage holds there is not stuck


Epoch = tuple[int, int]  # InFlight's epoch, and the rebalance that it began after: no answer of Kafka outlives both


class Flow(Protocol):
    """What Faust's consumer says of itself, and does for a poll (app.stream.transport.BatchConsumer)."""

    app: Any
    flow_active: bool
    can_resume_flow: asyncio.Event

    @property
    def should_stop(self) -> bool:
        """Whether the consumer is to end."""

    async def wait(self, event: asyncio.Event) -> Any:
        """Wait for the event, or until the consumer is to end."""

    async def wait_first(self, *coros: Any, timeout: float | None = None) -> Any:
        """Wait for the first of `coros`, for `timeout` seconds (None: for as long as it takes), or until the consumer
        is to end.
        """

    def active(self) -> set[TP]:
        """The partitions that are not paused."""

    def fetch(self, tps: set[TP], seconds: float) -> Awaitable[Mapping[Any, list[ConsumerRecord]]]:
        """The records of one poll of these partitions, by partition; the poll waits `seconds` for the first record."""

    def singles(self, tp: TP, run: list[ConsumerRecord], asked: Epoch) -> AsyncIterator[ConsumerMessage]:
        """Records of another topic than ours, each as Faust's own message."""
