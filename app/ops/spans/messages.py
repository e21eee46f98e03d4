"""What a span says of one message: in, its record and what became of the batch; out, attributes."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput
from app.core.model.records import Record, Rejected, Row
from app.core.routing.address import address_of
from app.runtime.tracing import semconv
from app.runtime.tracing.tracing import TraceSpan, Value

STORED, DUPLICATE, EITHER = "stored", "duplicate", "stored or duplicate"
DEAD_LETTER, CARRIED_OUT, LEFT_OUT = "dead letter", "carried out", "left out"
INTERRUPTED = "interrupted"  # the message's offset stays, and the message comes again

PAYLOAD_BYTES = 64 << 10  # a dead letter above this size is not searched for its ids

_offset = attrgetter("offset")


class _Claimed(msgspec.Struct, gc=False):
    """What a payload that was refused says of itself; each value may be anything."""

    user_id: Any = None
    device_id: Any = None
    sequence_id: Any = None


_claimed = msgspec.json.Decoder(_Claimed)


def identity(record: Record, work: BatchOutput) -> dict[str, Value]:
    """`user_id`, `device_id` and `sequence_id` of a record, as far as they are known: of its row, else of its topic and
    payload. `work` is what was made of its batch. Never raises.
    """
    row = _row(record, work)
    if row is not None:
        return {semconv.USER_ID: row[1], semconv.DEVICE_ID: row[2], semconv.SEQUENCE_ID: row[3]}
    found: dict[str, Value] = {}
    address = address_of(record)
    if not isinstance(address, Rejected):
        found = {semconv.USER_ID: address.user_id, semconv.DEVICE_ID: address.device_id}
    found |= {name: value for name, value in _claims(record) if not found.get(name)}
    return {name: value for name, value in found.items() if value != ""}


def place(record: Record, topic: str, partition: int, group: str) -> dict[str, Value]:
    """Where the record is in Kafka, as attributes of the semantic conventions; `group` is the consumer group."""
    return {
        semconv.MESSAGING_SYSTEM: semconv.KAFKA,
        semconv.MESSAGING_OPERATION_NAME: "process",
        semconv.MESSAGING_OPERATION_TYPE: "process",
        semconv.MESSAGING_DESTINATION_NAME: topic,
        semconv.MESSAGING_DESTINATION_PARTITION_ID: str(partition),
        semconv.MESSAGING_KAFKA_OFFSET: record.offset,
        semconv.MESSAGING_CONSUMER_GROUP_NAME: group,
        semconv.MESSAGING_MESSAGE_BODY_SIZE: len(record.value or b""),
    }


def dead_letters(work: BatchOutput, written: WriteResult) -> Mapping[int, Rejected]:
    """All dead letters of a batch by offset: those that were rejected, and those that the database refused."""
    if not work.rejected and not written.refused and not written.refused_effects:
        return {}
    refused = work.refusals(written.refused, written.refused_effects)
    return {one.record.offset: one for one in (*work.rejected, *refused)}


def conclude(span: TraceSpan, record: Record, dead: Rejected | None, work: BatchOutput, written: WriteResult) -> None:
    """Say on the span of a message what became of it, as `iot.outcome`; a dead letter (`dead` is not None) is a
    failure, with its reason. Does not end the span.
    """
    if dead is None:
        span.set({semconv.OUTCOME: _outcome(record, work, written)})
    else:
        reason = str(dead.reason)
        span.set({semconv.OUTCOME: DEAD_LETTER, semconv.REASON: reason})
        span.fail(reason, dead.detail)


def _outcome(record: Record, work: BatchOutput, written: WriteResult) -> str:
    """The database counts duplicates and does not name them: where a batch has both, which row is one stays unknown."""
    if _row(record, work) is not None:
        if not written.duplicates:
            return STORED
        return EITHER if written.rows else DUPLICATE
    if _has(work.again, record):
        return DUPLICATE
    return CARRIED_OUT if _has(work.effect_sources, record) or _has(work.commands, record) else LEFT_OUT


def _has(records: Sequence[Record], record: Record) -> bool:
    return any(one is record for one in records)  # to compare them by value would take long


def _row(record: Record, work: BatchOutput) -> Row | None:
    at = bisect_left(work.sources, record.offset, key=_offset)
    return work.rows[at] if at < len(work.sources) and work.sources[at] is record else None


def _claims(record: Record) -> Iterator[tuple[str, Value]]:
    if not record.value or len(record.value) > PAYLOAD_BYTES:
        return
    try:
        claimed = _claimed.decode(record.value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    for name in (semconv.USER_ID, semconv.DEVICE_ID):
        if isinstance(value := getattr(claimed, name), str):
            yield name, value
    if isinstance(number := claimed.sequence_id, int) and abs(number) < 1 << 63:
        yield semconv.SEQUENCE_ID, number
