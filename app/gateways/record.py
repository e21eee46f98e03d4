"""What every gateway puts on the input topic: one Kafka record, and what is owed for it."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from app.core.model.headers import REDELIVERED
from app.core.model.records import Kind
from app.core.routing.mqtt_topics import is_own_output

FIXED_HEADERS = 3  # every record begins with mqtt_topic, kind and ingest_ms; a traceparent is its last


class IngestRecord(Struct, gc=False):
    """A record for the input topic, and the MQTT packet id that is owed an ack once Kafka has it."""

    kind: Kind
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    packet_id: int  # 0: nothing is owed (any more: the connection is gone, see held_records.py)
    ingest_ms: int  # when it was received, ms since 1970; the record's timestamp
    again: bool = False  # the broker has sent it before
    written: bool = False  # it is held already; only its PUBACK is owed
    over: str | None = None  # which limit it is over: it is to be a dead letter


class Submission(Struct, gc=False):
    """Records that a gateway answers together, and the future that is done when Kafka has all of them."""

    records: Sequence[IngestRecord]
    dead: Sequence[IngestRecord]  # for the dead-letter topic
    payload: int  # bytes, of the records
    size: int  # bytes of memory, of all
    user: bytes  # whose the first is
    gateway: bytes
    done: Any  # asyncio.Future of those that Kafka refuses for ever
    began: float  # time.perf_counter


class ChunkSum(Struct, gc=False):
    """What of a chunk is one gateway's, or one user's."""

    began: float  # of the first submission
    records: int = 0
    payload: int = 0
    size: int = 0


def may_be_there(records: Iterable[IngestRecord]) -> None:
    """Note on each record that Kafka may have it already: a write failed, and nobody knows how much was written.

    Also where no packet id marks a repeat: late readings that may be repeats say nothing of their device's clock.
    """
    for record in records:
        if (REDELIVERED, b"1") not in record.headers:
            record.headers.insert(FIXED_HEADERS, (REDELIVERED, b"1"))


def own_output(record: IngestRecord) -> bool:
    """Whether a record is what this project published itself, and so must not be taken in again."""
    return record.kind is Kind.UNKNOWN and is_own_output(record.headers[0][1].decode("utf-8", "replace"))
