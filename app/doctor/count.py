"""The count: in, the newest committed records of the input topic; out, the records that are neither a row nor a dead
letter.

Each record is decoded as a worker decodes, and looked up where it must be: its row in the database, else its envelope
on the dead-letter topic. The count trusts no counter, so it finds what the books of a worker cannot: rows deleted
since, or lost by the database.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.core.deadletters.envelope import delivery_mark
from app.core.decode.decoder import DecodeLimits
from app.core.model.records import Reading, Rejected
from app.core.processing.expected_outcome import CarriedOut, DroppedByPolicy, OutcomeJudge
from app.core.sampling.left_out import judge
from app.core.schema.schema import Schema
from app.doctor.finding import Finding, broken, ok, warning
from app.kafka.access import access
from app.kafka.dead_letter_reader import DeadLetterTail, RecentDeadLetters
from app.kafka.group_coordinator import coordinated
from app.postgres.connect import Connection, connect
from app.postgres.queries.sampling_policies import policies_of
from app.postgres.queries.telemetry_rows import TABLE, table_of
from app.postgres.sqlstate import DATABASE_ERRORS, words
from app.settings import Settings

AREA = "count"
CENTURY = 100 * 365 * 86400.0  # a worker judged the time when it read the record; the count takes any time
TIMEOUT_MS = 10_000
EXAMPLES = 3


class Tally(NamedTuple):
    """The records of one partition that were looked up, by what became of them."""

    rows: int
    dead: int
    carried_out: int  # settings, status and the like, which overwrite one another, and what is left out without a row
    left_out: int  # by change of value
    doubtful: list[tuple[int, str]]  # (offset, reading) that change of value would have kept, as it is set now
    missing: list[tuple[int, str]]  # (offset, reading or error)


async def look(settings: Settings, newest: int) -> list[Finding]:
    """Count the `newest` committed records of every partition. Never raises for an outage, which is a finding."""
    try:
        connection = await connect(settings, "iot-stream doctor")
        try:
            tallies = await _partitions(settings, connection, newest)
        finally:
            await connection.close(timeout=5)
    except DATABASE_ERRORS as error:
        return [warning(AREA, f"nothing counted: {words(error)}", "see what the other findings say")]
    except KafkaError as error:
        return [warning(AREA, f"nothing counted: {error!r}", "see what the other findings say")]
    return report(settings, tallies)


def report(settings: Settings, tallies: dict[int, Tally]) -> list[Finding]:
    """A finding for each partition that misses something, or one for all; `tallies` are by partition."""
    found = []
    for partition, tally in tallies.items():
        if tally.missing:
            examples = "; ".join(f"offset {offset}: {what}" for offset, what in tally.missing[:EXAMPLES])
            what = f"partition {partition}: {len(tally.missing)} committed records are no row and no dead letter: "
            cure = (
                f"if the rows were not deleted: stop the workers, iot-stream history reset --offset {partition}:"
                f"{tally.missing[0][0]} --yes, and start them; rows in the table stay (docs/replay.md)"
            )
            found.append(broken(AREA, what + examples, cure))
        if tally.doubtful:
            examples = "; ".join(f"offset {offset}: {what}" for offset, what in tally.doubtful[:EXAMPLES])
            what = f"partition {partition}: {len(tally.doubtful)} readings are no row, though the change of value that "
            cure = "if the setting was changed since, or rows were deleted, all is well; else as for missing records"
            found.append(warning(AREA, f"{what}is set now would keep them: {examples}", cure))
    numbers = zip((0, 0, 0, 0), *(tally[:4] for tally in tallies.values()), strict=True)
    rows, dead, carried_out, left_out = map(sum, numbers)
    total = f"of the newest committed records {rows:,} are rows, {dead:,} dead letters, "
    total += f"{carried_out:,} settings and the like"
    total += f", {left_out:,} left out by change of value" if left_out else ""
    return found or [ok(AREA, f"{total}; none is missing")]


class _Letters:
    """The dead letters of the input topic's partitions."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._partitions = partitions
        self._tail = DeadLetterTail(access(settings), settings.kafka_dlq_topic, asyncio.Event())

    async def since(self, tp: TopicPartition, first: int) -> RecentDeadLetters:
        """The dead letters of `tp` from offset `first` on, from where a worker puts them."""
        if not self._partitions:
            return RecentDeadLetters({}, set(), {})
        places = [tp.partition] if tp.partition < self._partitions else range(self._partitions)
        return await self._tail.read(tp.topic, tp.partition, places, first)


async def _partitions(settings: Settings, connection: Connection, newest: int) -> dict[int, Tally]:
    admin = AIOKafkaAdminClient(**access(settings).options, request_timeout_ms=TIMEOUT_MS)
    await admin.start()
    try:
        offsets = await coordinated(lambda: admin.list_consumer_group_offsets(settings.group_id))
        described = await admin.describe_topics([settings.kafka_dlq_topic])
    finally:
        await admin.close()
    tally, letters = {}, _Letters(settings, len(described[0]["partitions"]))
    options = {"enable_auto_commit": False, "fetch_max_wait_ms": 10, "isolation_level": "read_committed"}
    async with AIOKafkaConsumer(**access(settings).options, **options) as consumer:
        for tp in sorted(tp for tp in offsets if tp.topic == settings.kafka_topic):
            records = await _read(consumer, tp, offsets[tp].offset, newest)
            if records:
                readings, carried_out, dead = _sort(settings, records)
                absent = await _absent(connection, readings)
                missing = await _missing(letters, tp, records[0].offset, dead + absent)
                lettered = len(dead) + len(absent) - len(missing)
                judged = await _judged(connection, settings.telemetry_schema, readings, missing)
                rows = len(readings) - len(absent)
                tally[tp.partition] = Tally(rows, lettered, carried_out, *judged)
    return tally


async def _judged(
    connection: Connection,
    schema: Schema,
    readings: Sequence[tuple[Any, Reading]],
    missing: list[tuple[int, str]],
) -> tuple[int, list[tuple[int, str]], list[tuple[int, str]]]:
    """Of `missing`: how many change of value left out, the readings it would have kept, and the lost readings."""
    if not missing:
        return 0, [], []
    offsets = {offset for offset, _ in missing}
    users = {one.user_id for record, one in readings if record.offset in offsets}
    policies = await policies_of(connection, schema, users)
    judged = judge(readings, offsets, *policies, int(time.time() * 1000))
    doubtful = [one for one in missing if one[0] in judged.doubtful]
    return len(judged.left_out), doubtful, [one for one in missing if one[0] not in judged.left_out | judged.doubtful]


async def _read(consumer: AIOKafkaConsumer, tp: TopicPartition, end: int, newest: int) -> list[Any]:
    consumer.assign([tp])
    start = (await consumer.beginning_offsets([tp]))[tp]
    end = min(end, (await consumer.end_offsets([tp]))[tp])
    consumer.seek(tp, max(start, end - newest))
    found: list[Any] = []
    while await consumer.position(tp) < end:
        found += (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
    return [record for record in found if record.offset < end]


async def _missing(
    letters: _Letters, tp: TopicPartition, first: int, wanted: Sequence[tuple[Any, str]]
) -> list[tuple[int, str]]:
    """The records of `wanted` that are not on the dead-letter topic, by offset; a redelivery counts as its first."""
    if not wanted:
        return []
    recent = await letters.since(tp, first)
    return sorted(
        (record.offset, what)
        for record, what in wanted
        if record.offset not in recent.payloads
        and delivery_mark(record.value or b"", record.headers) not in recent.marks
    )


def _sort(settings: Settings, records: Sequence[Any]) -> tuple[list[tuple[Any, Reading]], int, list[tuple[Any, str]]]:
    """Records that must be rows, the number of records carried out without a row, and records that must be dead
    letters.
    """
    limits = DecodeLimits(CENTURY, CENTURY, settings.payload_max_bytes, settings.payload_max_depth)
    outcomes, now_ms = OutcomeJudge(limits, settings.telemetry_schema), int(time.time() * 1000)
    readings, carried_out, dead = [], 0, []
    for record in records:
        match outcomes.judge(record, now_ms):
            case Rejected(detail=detail):
                dead.append((record, detail))
            case DroppedByPolicy() | CarriedOut():
                carried_out += 1
            case reading:
                readings.append((record, reading))
    return readings, carried_out, dead


async def _absent(connection: Connection, readings: Sequence[tuple[Any, Reading]]) -> list[tuple[Any, str]]:
    keys = [(one.time, one.user_id, one.device_id, one.sequence_id) for _, one in readings]
    absent = []
    for index in await table_of(TABLE).absent(connection, keys):
        record, one = readings[index]
        absent.append((record, f"{one.user_id}/{one.device_id}, sequence_id {one.sequence_id}"))
    return absent
