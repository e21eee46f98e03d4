"""A range of the input topic against a table of rows: in, what was asked for; out, the ledger of every record.

    1  the range, up to what the group of the workers has committed: what is committed has its row or its dead letter
    2  the dead letters of the range
    3  the records, in chunks: each a row, a dead letter, left out by a policy, or missing
    4  the rows of these times: each of a record, or extra

Nothing is written, and no group is joined.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from app.core.model.arrival import moment_of
from app.core.sampling.left_out import StoredReadings
from app.errors import PermanentError
from app.history.chunks import chunks
from app.history.table_at_hand import table_at_hand
from app.history.verification.extra import ExtraRows, RowWindow, window_of
from app.history.verification.ledger import EXAMPLES, VerifyLedger
from app.history.verification.letters import KeptLetters
from app.history.verification.records import RecordCheck, utc
from app.history.verification.store import VerifyStore
from app.history.verification.watch import VerifyWatch
from app.kafka.access import Access, access
from app.kafka.group_state import offsets_of_group
from app.kafka.reading.offset_ranges import PartitionRange, PartOfTopic, offsets_of, records_in
from app.kafka.reading.record_log import RecordLog, record_log
from app.postgres.queries.telemetry_rows import TABLE
from app.settings import Settings


class VerifyRequest(Struct, frozen=True):
    """What a verification was asked for."""

    part: PartOfTopic
    user: str | None = None
    table: str = TABLE
    group: str | None = None  # whose commits end the range; None: the range is not ended by commits
    extra: bool = True  # whether rows without a record are looked for
    examples: int = EXAMPLES  # of each finding


class VerifyRange(NamedTuple):
    """The range, by partition."""

    parts: Mapping[int, PartitionRange]
    starts: Mapping[int, int]  # the first offset that Kafka has, of all partitions of the topic

    def floors(self, since_ms: int | None, first_ms: Mapping[int, int]) -> dict[int, int]:
        """By partition, the time (milliseconds since 1970) from which on no record was before the range, where
        something says so: what was asked for, where Kafka has records of before then, else the first record.
        """
        found = dict(first_ms)
        if since_ms is not None:
            whole = (
                number for number, part in self.parts.items() if part.begin > self.starts[number] or not part.begin
            )
            found.update((number, since_ms) for number in whole)
        return found


async def verify(settings: Settings, asked: VerifyRequest, watch: VerifyWatch) -> VerifyLedger:
    """Compare. Raises TransientError when a server is away, PermanentError when it refuses or when the request does not
    fit, PartError for a partition that the topic does not have.
    """
    kafka, store = access(settings), VerifyStore()
    ledger = VerifyLedger(settings.kafka_topic, asked.group, asked.table, asked.user)
    try:
        async with table_at_hand(settings, asked.table) as table, record_log(kafka, settings.kafka_topic) as log:
            found = await _range(kafka, log, asked, ledger)
            watch.begins(records_in(list(found.parts.values())))
            letters = KeptLetters(store)
            async with record_log(kafka, settings.kafka_dlq_topic, committed=False) as dead:
                await letters.read(dead, settings.kafka_topic, asked.part.since_ms, watch)
            rows = StoredReadings(*await table.policies(settings.telemetry_schema))
            check = RecordCheck(settings, ledger, table, letters, rows, store, asked.examples)
            await _records(log, found, check, watch)
            ledger.interrupted = watch.stopped
            window = None if ledger.interrupted or not asked.extra else _window(asked, found, check)
            if window is not None:
                search = ExtraRows(table, store, check, window, asked.user)
                ledger.extra = await search.look(log, found.parts, asked.examples, watch)
                ledger.extra_since = utc(window.begin)
                ledger.interrupted = watch.stopped
    finally:
        store.close()
    return ledger


async def _range(kafka: Access, log: RecordLog, asked: VerifyRequest, ledger: VerifyLedger) -> VerifyRange:
    """The offsets that are looked at, up to what the group has committed; the rest is waiting."""
    found = {tp.partition: part for tp, part in (await offsets_of(log, asked.part)).items()}
    starts = {tp.partition: at for tp, at in (await log.starts()).items()}
    if asked.group is not None:
        offsets = await offsets_of_group(kafka, asked.group)
        committed = {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == ledger.topic}
        if not committed:
            cure = "name the group whose workers fill the table in --group, or give --uncommitted"
            raise PermanentError(f"the group {asked.group} has committed nothing of {ledger.topic}: {cure}")
        for number, part in found.items():
            end = max(part.begin, min(part.end, committed.get(number, 0)))
            ledger.waiting += part.end - end
            found[number] = PartitionRange(part.begin, end)
    ledger.begin = {number: part.begin for number, part in found.items()}
    ledger.end = {number: part.end for number, part in found.items()}
    ledger.at = dict(ledger.begin)
    return VerifyRange(found, starts)


async def _records(log: RecordLog, found: VerifyRange, check: RecordCheck, watch: VerifyWatch) -> None:
    if watch.stopped:  # without all letters nothing can be said
        return
    tps = {tp: found.parts[tp.partition] for tp in log.tps if tp.partition in found.parts}
    begin, until = {tp: part.begin for tp, part in tps.items()}, {tp: part.end for tp, part in tps.items()}
    async for records in chunks(log, begin, until):
        await check.look(records)
        watch.read(check.ledger)
        if watch.stopped:
            return
    check.ledger.at.update((tp.partition, end) for tp, end in until.items())  # the last offsets may be no records


def _window(asked: VerifyRequest, found: VerifyRange, check: RecordCheck) -> RowWindow | None:
    """Which rows the range must have the records of: of times up to its end."""
    part, now_ms = asked.part, time.time_ns() // 1_000_000
    until_ms = now_ms if part.until_ms is None else min(part.until_ms, now_ms)
    if any(one.last is not None for one in part.offsets):
        until_ms = min(until_ms, check.last_ms)
    floors = found.floors(part.since_ms, check.first_ms)
    window = window_of(floors, found.starts, found.parts, check.ahead, moment_of(until_ms))
    return window if window is not None and window.begin < window.until else None
