"""A record Kafka refuses for ever (too large) -> its dead letter, in the envelope every dead letter has."""

from datetime import UTC, datetime

from msgspec import Struct

from app.core.deadletter import Headers, to_record
from app.core.model import Reason, Rejected, Stage
from app.gateways.records import Outgoing

NOWHERE = -1  # partition and offset of a record that was never written


class _Unwritten(Struct, frozen=True, gc=False):
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: int
    offset: int = NOWHERE


def dead_letter(record: Outgoing, topic: str) -> tuple[bytes | None, bytes, Headers]:
    """Key, value and headers for the dead-letter topic; the payload is in it whole."""
    detail = f"Kafka refuses a record of {len(record.value)} bytes; raise max.message.bytes of the topic {topic}"
    original = _Unwritten(record.key, record.value, record.headers, record.ingest_ms)
    rejected = Rejected(original, Reason.PAYLOAD_TOO_LARGE, Stage.ROUTE, detail)
    return to_record(rejected, topic, NOWHERE, datetime.now(UTC).isoformat())
