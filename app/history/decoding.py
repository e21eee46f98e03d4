"""Records decoded once more, as a worker decodes them: in, records of a partition; out, the rows and what else became
of each record.

The worker's own code decides, without rules, without change of value and with an empty state: every reading is a row.
"""

import time
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct

from app.core.batch.output import BatchOutput
from app.core.decode.decoder import DecodeLimits
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from app.settings import Settings

# Records before the first one that are decoded as well, and not stored: of devices that send no time, the state of
# these says which of the first messages are redeliveries (app.core.processing.redelivery).
RUN_UP = 2_000


class ReadBatch(Struct):
    """Records of one partition in offset order, of which nobody commits anything."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    records: Sequence[Any]
    epoch: int = 0

    def current(self) -> bool:
        """Nobody else takes the partition over."""
        return True

    async def ack(self) -> None:
        """There is nothing to acknowledge."""


class HistoryDecoder:
    """Decodes the records of all partitions, those of each in their order."""

    def __init__(self, settings: Settings) -> None:
        limits = DecodeLimits(
            settings.time_future_max, settings.time_past_max, settings.payload_max_bytes, settings.payload_max_depth
        )
        schema = settings.telemetry_schema
        self._process = Processor(
            limits, schema, RuleBook(schema), lambda partition, key: None, in_memory=settings.devices_in_memory
        )

    def decode(self, tp: TopicPartition, records: Sequence[Any]) -> BatchOutput:
        """What a worker would make of the records, of which there is at least one. Never raises for any record."""
        batch = ReadBatch(tp.topic, tp.partition, records[0].offset, records[-1].offset + 1, records)
        found = self._process(batch, time.time())
        self._process.closed(batch)
        return found
