"""The finds of a message -> where the message is now: pure, from records, rows, dead letters and committed offsets."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from app.core.deadletters.envelope import DeadLetter
from app.core.decode.dated import is_dated
from app.core.model.headers import RETAINED
from app.core.model.records import Kind
from app.inspect.decoding import DecodedRecord, header
from app.postgres.queries.one_reading import StoredRow


class MessageState(StrEnum):
    """Where a message is; the first four are well."""

    STORED = "stored"  # its row is in the database
    DEAD_LETTERED = "dead_lettered"
    WAITING = "waiting"  # in Kafka, and the workers have not committed it yet
    DROPPED = "dropped"  # left out on purpose, or carried out without a row: kept nowhere
    UNACCOUNTED = "unaccounted"  # committed, and neither a row nor a dead letter
    NOT_SEEN = "not_seen"


class FoundRecord(Struct, frozen=True):
    """A record of the input topic, and its content."""

    record: Any  # aiokafka's
    decoded: DecodedRecord


class FoundLetter(Struct, frozen=True):
    """A dead letter, and what its original says."""

    record: Any
    letter: DeadLetter
    decoded: DecodedRecord


class GroupPosition(Struct, frozen=True):
    """How far the workers are in a partition."""

    committed: int | None  # None: nothing yet
    start: int  # of the log
    end: int


class Sighting(Struct, frozen=True):
    """A record of the message, and where that stands."""

    found: FoundRecord
    state: MessageState
    why: str  # a sentence
    row: StoredRow | None = None
    letter: FoundLetter | None = None
    ahead: int | None = None  # of a record that waits: how many records before it wait too


def sighted(
    found: FoundRecord,
    rows: Mapping[datetime, StoredRow],
    letters: Sequence[FoundLetter],
    position: GroupPosition,
    sampled: bool = False,
) -> Sighting:
    """Judge one record, committed up to `position`. `rows` are the message's by time, `letters` its dead
    letters; `sampled`: its user leaves readings out on purpose.
    """
    reading, record = found.decoded.reading, found.record
    row = rows.get(reading.time) if reading else None
    if row is not None:
        return Sighting(found, MessageState.STORED, "its row is in raw_telemetry", row=row)
    waits = position.committed is None or record.offset >= position.committed
    letter = next((one for one in letters if _is_of(one, record, by_payload=not waits)), None)
    if letter is not None:
        return Sighting(found, MessageState.DEAD_LETTERED, f"refused: {letter.letter.error}", letter=letter)
    if waits:
        ahead = max(0, record.offset - max(position.committed or 0, position.start))
        return Sighting(found, MessageState.WAITING, _waits(found, position, ahead), ahead=ahead)
    state, why = _done(found, sampled)
    return Sighting(found, state, why)


def _waits(found: FoundRecord, position: GroupPosition, ahead: int) -> str:
    before = f"{ahead:,} records wait before it" if ahead else "no record waits before it"
    refused = found.decoded.refused
    before += f"; a worker will refuse it: {refused.detail}" if refused else ""
    if position.committed is None:
        return f"no worker has committed anything of its partition yet; {before}"
    return f"workers have committed up to offset {position.committed}; {before}"


def _done(found: FoundRecord, sampled: bool) -> tuple[MessageState, str]:
    """A committed record without row and dead letter."""
    record, kind = found.record, found.decoded.kind
    if found.decoded.refused is None and kind is not Kind.TELEMETRY:
        return MessageState.DROPPED, f"carried out: a message of kind {kind} leaves no row of its own"
    if not record.value:
        return MessageState.DROPPED, "left out: an empty message only clears what the MQTT broker retains"
    if header(record, RETAINED) not in (None, b"", b"0") and not is_dated(record.value):
        return MessageState.DROPPED, "left out: the message is history, retained by the MQTT broker and without a time"
    if sampled:
        return MessageState.DROPPED, "left out by the user's change of value (sampling), or its row was deleted"
    if found.decoded.way and not is_dated(record.value):
        return MessageState.DROPPED, "a redelivery of a message without a time, or its row was deleted"
    why = "workers are done with the record, and it is neither a row nor a dead letter; was its row deleted?"
    return MessageState.UNACCOUNTED, why


def _is_of(one: FoundLetter, record: Any, *, by_payload: bool) -> bool:
    """Whether a dead letter is that of a record, or of another delivery of the same bytes."""
    letter = one.letter
    source = (letter.source_topic, letter.source_partition, letter.source_offset)
    same = source == (record.topic, record.partition, record.offset)
    return same or (by_payload and letter.payload == (record.value or b""))
