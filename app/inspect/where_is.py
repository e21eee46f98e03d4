"""Where a message is now: in, its known ids; out, its records, its row, its dead letters, asked in this order."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from msgspec import Struct

from app.core.model.arrival import moment_of
from app.errors import PermanentError, TransientError
from app.inspect.decoding import RecordDecoder, trace_id_of
from app.inspect.search import BackwardReader, Matcher, Search, SoughtMessage
from app.inspect.sighting import FoundLetter, FoundRecord, GroupPosition, MessageState, Sighting, sighted
from app.kafka.access import KAFKA_ERRORS, Access, access, start
from app.kafka.group_coordinator import coordinated
from app.kafka.reading.record_log import ASK_MS, Offsets, RecordLog, record_log
from app.postgres.connect import operator_session
from app.postgres.queries.one_reading import StoredRow, rows_of, samples
from app.settings import Settings

_GONE = (MessageState.DROPPED, MessageState.UNACCOUNTED)


class Window(Struct, frozen=True):
    """Where to search: records since `begin_ms`, of the partitions of the message's keys or of all."""

    begin_ms: int
    all_partitions: bool = False


class MessageTrace(Struct):
    """All that was found of a message, the newest first."""

    sought: SoughtMessage  # with the ids of its record
    sightings: Sequence[Sighting]
    rows: Sequence[StoredRow]  # of no record that was found
    letters: Sequence[FoundLetter]  # the same
    notes: Sequence[str]  # what could not be asked, and why

    @property
    def state(self) -> MessageState:
        """The state of its newest record; a copy that was left out says nothing where another copy is stored."""
        if self.sightings:
            newest = self.sightings[0].state
            stored = any(one.state is MessageState.STORED for one in self.sightings)
            return MessageState.STORED if stored and newest in _GONE else newest
        if self.rows:
            return MessageState.STORED
        return MessageState.DEAD_LETTERED if self.letters else MessageState.NOT_SEEN


async def where_is(settings: Settings, sought: SoughtMessage, window: Window, search: Search) -> MessageTrace:
    """Ask Kafka for the message's records and dead letters, then the database for its rows. What the database does not
    answer is in `notes`; that not all was read is in `search`. Raises TransientError and PermanentError where Kafka
    cannot be asked at all.
    """
    kafka, matcher = access(settings), Matcher(sought, RecordDecoder(settings))
    async with record_log(kafka, settings.kafka_topic) as log:
        begin, end = await _range(log, sought, window)
        records: list[FoundRecord] = await BackwardReader(log.client, matcher.record, search).read(begin, end)
        starts = await log.starts()
    records.sort(key=lambda one: -one.record.timestamp)
    # Before rows and dead letters: records that are committed by now have theirs by then.
    committed = await _committed(kafka, settings) if records else {}
    letters = await _letters(settings, sought, window, matcher, search)
    positions = {tp: GroupPosition(committed.get(tp), starts[tp], end[tp]) for tp in begin}
    sought = _completed(sought, records, letters)
    notes: list[str] = []
    rows, sampled = await _stored(settings, sought, records, window, notes)
    sightings = [
        sighted(one, rows, letters, positions[TopicPartition(one.record.topic, one.record.partition)], sampled)
        for one in records
    ]
    known = [one.letter for one in sightings]
    seen = {one.row.time for one in sightings if one.row}
    return MessageTrace(
        sought,
        sightings,
        [row for time, row in rows.items() if time not in seen],
        [one for one in letters if one not in known],
        notes,
    )


async def _range(log: RecordLog, sought: SoughtMessage, window: Window) -> tuple[Offsets, Offsets]:
    ends = await log.ends()
    begin = await log.since(window.begin_ms, ends)
    count = len(log.tps)
    wanted = range(count) if window.all_partitions else sought.partitions(count)
    return {tp: begin[tp] for tp in log.tps if tp.partition in wanted}, ends


async def _letters(
    settings: Settings, sought: SoughtMessage, window: Window, matcher: Matcher, search: Search
) -> list[FoundLetter]:
    """Dead letters of a record are in the partition of its number, where the dead-letter topic has that partition."""
    async with record_log(access(settings), settings.kafka_dlq_topic, committed=False) as log:
        begin, end = await _range(log, sought, window)
        found: list[FoundLetter] = await BackwardReader(log.client, matcher.letter, search).read(begin, end)
        return found


async def _committed(kafka: Access, settings: Settings) -> Mapping[TopicPartition, int]:
    """What the workers' group has committed."""
    admin = AIOKafkaAdminClient(**kafka.options, request_timeout_ms=ASK_MS)
    try:
        await start(admin, kafka)
        found: Mapping[Any, Any] = await coordinated(lambda: admin.list_consumer_group_offsets(settings.group_id))
    except KAFKA_ERRORS as error:
        raise TransientError(f"cannot ask for the offsets of group {settings.group_id}: {error!r}") from error
    finally:
        await admin.close()
    return {tp: at.offset for tp, at in found.items() if at.offset >= 0}


def _completed(sought: SoughtMessage, records: Sequence[FoundRecord], letters: Sequence[FoundLetter]) -> SoughtMessage:
    """With ids and trace of the newest record, or else dead letter."""
    newest: Sequence[FoundRecord | FoundLetter] = records or letters
    for found in newest:
        decoded = found.decoded
        return SoughtMessage(
            decoded.user_id, decoded.device_id, decoded.sequence_id, trace_id_of(found.record) or sought.trace_id
        )
    return sought


async def _stored(
    settings: Settings, sought: SoughtMessage, records: Sequence[FoundRecord], window: Window, notes: list[str]
) -> tuple[dict[datetime, StoredRow], bool]:
    """The rows of the message by time, and whether its user leaves readings out; a note where the database does not
    answer.
    """
    if sought.user_id is None or sought.device_id is None or sought.sequence_id is None:
        return {}, False
    times = [one.decoded.reading.time for one in records if one.decoded.reading]
    if not times:
        latest = time.time() + settings.time_future_max
        times = [moment_of(window.begin_ms), moment_of(int(latest * 1000))]
    ids = (sought.user_id, sought.device_id, sought.sequence_id)
    try:
        async with operator_session(settings, "trace") as connection:
            found = await rows_of(connection, *ids, min(times), max(times) + timedelta(microseconds=1))
            return {row.time: row for row in found}, await samples(connection, sought.user_id)
    except (TransientError, PermanentError) as error:
        notes.append(f"whether its row is there is not known: {error}")
        return {}, False
