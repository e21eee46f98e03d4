"""What an export reads: in, a part of the topic or of the table; out, its readings, a chunk at a time, and counts."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, assert_never

import msgspec
from aiokafka import TopicPartition

from app.core.decode.decoder import DecodeLimits
from app.core.model.records import Reading, Rejected
from app.core.model.times import moment
from app.core.processing.expected_outcome import CarriedOut, DroppedByPolicy, OutcomeJudge, named_user
from app.core.schema.schema import Schema
from app.errors import PermanentError
from app.history.chunks import chunks
from app.history.exporting.plan import ExportCounts, ExportPart
from app.history.exporting.readings_file import ReadingsAt
from app.history.table_at_hand import TableAtHand
from app.kafka.reading.record_log import RecordLog
from app.postgres.queries.telemetry_rows import reading_columns
from app.settings import Settings

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ExportSource(Protocol):
    """Where the readings come from."""

    def read(self, part: ExportPart, counts: ExportCounts) -> AsyncIterator[ReadingsAt]:
        """Yield the readings of a part in their order; `counts` are those of the part. Raises TransientError when a
        server is away, PermanentError when it refuses.
        """


class TopicSource:
    """Records of the input topic, decoded as a worker decodes them. `read` raises KAFKA_ERRORS, too."""

    def __init__(self, settings: Settings, log: RecordLog, user: str | None) -> None:
        """`user`: whose readings are read; None: all."""
        limits = DecodeLimits(
            settings.time_future_max, settings.time_past_max, settings.payload_max_bytes, settings.payload_max_depth
        )
        self._outcomes = OutcomeJudge(limits, settings.telemetry_schema)
        self._log, self._topic, self._user = log, settings.kafka_topic, user

    async def read(self, part: ExportPart, counts: ExportCounts) -> AsyncIterator[ReadingsAt]:
        """As in ExportSource. Raises PermanentError for a topic that was made anew."""
        tp = TopicPartition(self._topic, part.partition)
        start, end = (await self._log.starts())[tp], (await self._log.ends())[tp]
        if end < part.end:
            cure = "its topic was made anew since the export began: begin another one, in another directory"
            raise PermanentError(f"{self._topic}-{part.partition} ends at {end}, before {part.end}: {cure}")
        counts.gone += max(0, min(start, part.end) - part.first)
        begin = min(max(start, part.first), part.end)
        async for records in chunks(self._log, {tp: begin}, {tp: part.end}):
            yield self._decoded(part.partition, records, counts)

    def _decoded(self, partition: int, records: Sequence[Any], counts: ExportCounts) -> ReadingsAt:
        now_ms = time.time_ns() // 1_000_000
        readings, offsets = list[Reading](), list[int]()
        self._outcomes.begin()
        for record in records:
            counts.records += 1
            found = self._outcomes.judge(record, now_ms, partition)
            if self._user is not None and self._user != named_user(record, found):
                counts.not_asked += 1
                continue
            match found:
                case Reading():
                    readings.append(found)
                    offsets.append(record.offset)
                case Rejected(reason=reason):
                    counts.refused[reason] = counts.refused.get(reason, 0) + 1
                case DroppedByPolicy(policy=policy):
                    counts.left_out[policy] = counts.left_out.get(policy, 0) + 1
                case CarriedOut():
                    counts.carried_out += 1
                case _:
                    assert_never(found)
        return ReadingsAt(readings, partition, offsets)


class TableSource:
    """Rows of a table."""

    def __init__(self, table: TableAtHand, schema: Schema, user: str | None) -> None:
        """`user`: whose rows are read; None: all."""
        self._table, self._schema, self._user = table, schema, user

    async def read(self, part: ExportPart, counts: ExportCounts) -> AsyncIterator[ReadingsAt]:
        """As in ExportSource."""
        begin, end = moment(part.first), moment(part.end)
        async for rows in self._table.pages(reading_columns(self._schema), begin, end, self._user):
            counts.records += len(rows)
            yield ReadingsAt([self._reading(row) for row in rows], part.partition, None)

    def _reading(self, row: Sequence[Any]) -> Reading:
        at, user_id, device_id, sequence_id, extra, *values = row
        found: Reading = self._schema.reading(at, user_id, device_id, sequence_id, _fields(extra), extra, *values)
        return found
