"""Runs of records as Faust messages: their limits, their message and their topic."""

from dataclasses import dataclass

import faust
from faust.events import Event
from faust.types import ConsumerMessage

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
    in_work: bool = False  # taken by the pipeline: holding it (an outage) is not being stuck


class BatchTopic(faust.Topic):
    """A topic whose events carry batches: nothing is decoded before the agent sees it."""

    def _compile_decode(self) -> None:
        app = self.app

        async def decode(message: BatchMessage, *, propagate: bool = False) -> Event:
            return Event(app, None, message.value, None, message)

        self.decode = decode
