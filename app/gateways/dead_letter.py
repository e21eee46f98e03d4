"""A message that does not come onto the input topic -> its dead letter, in the envelope every dead letter has."""

from datetime import UTC, datetime

from msgspec import Struct

from app.core.deadletters.envelope import to_record
from app.core.model.records import Reason, Rejected, Stage
from app.gateways.record import IngestRecord

NOWHERE = -1  # partition and offset of a record that was never written


class _Unwritten(Struct, frozen=True, gc=False):
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: int
    offset: int = NOWHERE


def too_large_for(record: IngestRecord, topic: str) -> IngestRecord:
    """The dead letter of a record that Kafka refuses for ever; the payload is in it whole."""
    detail = f"Kafka refuses a record of {len(record.value)} bytes; raise max.message.bytes of the topic {topic}"
    return _dead(record, Rejected(_unwritten(record), Reason.PAYLOAD_TOO_LARGE, Stage.ROUTE, detail), topic)


def rate_limited(record: IngestRecord, limit: str, topic: str) -> IngestRecord:
    """The dead letter of a message over a limit; it can be replayed."""
    return _dead(record, Rejected(_unwritten(record), Reason.RATE_LIMITED, Stage.ROUTE, limit), topic)


def _unwritten(record: IngestRecord) -> _Unwritten:
    return _Unwritten(record.key, record.value, record.headers, record.ingest_ms)


def _dead(record: IngestRecord, rejected: Rejected, topic: str) -> IngestRecord:
    _, value, headers = to_record(rejected, topic, NOWHERE, datetime.now(UTC).isoformat())
    return IngestRecord(record.kind, record.key, value, headers, record.packet_id, record.ingest_ms)
