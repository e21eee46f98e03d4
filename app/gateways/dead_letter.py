"""A message that does not come onto the input topic -> its dead letter, in the envelope every dead letter has."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from app.core.deadletters.envelope import to_record
from app.core.model.records import Kind, Reason, Rejected, Stage
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import PAYLOAD_BYTES, Rejection

_REASONS = frozenset(Reason)
NOWHERE = -1  # partition and offset of a record that was never written


class _Unwritten(Struct, frozen=True, gc=False):
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: int
    offset: int = NOWHERE


def too_large_for(record: IngestRecord, topic: str) -> IngestRecord:
    """The dead letter of a record that Kafka refuses for ever; the payload is in it whole. `topic` is the
    input topic.
    """
    detail = f"Kafka refuses a record of {len(record.value)} bytes; raise max.message.bytes of the topic {topic}"
    return _dead(record, Rejected(_unwritten(record), Reason.PAYLOAD_TOO_LARGE, Stage.ROUTE, detail), topic)


def rate_limited(record: IngestRecord, limit: str, topic: str) -> IngestRecord:
    """The dead letter of a message over a limit, whose words are `limit`; it can be replayed. `topic` is the input
    topic.
    """
    return _dead(record, Rejected(_unwritten(record), Reason.RATE_LIMITED, Stage.ROUTE, limit), topic)


def refused_item(
    item: bytes, reason: str, error: str, user: str, gateway: bytes, ingest_ms: int, topic: str
) -> IngestRecord:
    """The dead letter of an item that a gateway refuses, where such dead letters are wanted
    (IOT_GATEWAY_DEAD_LETTER_REJECTED).

    `item` as it was sent; `user`: the account's, whose topic of telemetry stands for one that is not known;
    `ingest_ms`: milliseconds since 1970. A reason of the way's own is that of a topic that is not the account's.
    `topic`: the input topic.
    """
    headers = [
        ("mqtt_topic", f"users/{user}".encode()),
        ("kind", Kind.UNKNOWN.value.encode()),
        ("ingest_ms", b"%d" % ingest_ms),
        ("gateway", gateway),
    ]
    record = IngestRecord(Kind.UNKNOWN, user.encode(), item, headers, 0, ingest_ms)
    known = Reason(reason) if reason in _REASONS else Reason.UNKNOWN_TOPIC
    return _dead(record, Rejected(_unwritten(record), known, Stage.ROUTE, error), topic)


def refused_items(
    refused: Iterable[tuple[bytes, Rejection]], user: str, gateway: bytes, ingest_ms: int, topic: str
) -> list[IngestRecord]:
    """The dead letters of items, each with why it is refused; as `refused_item`.

    None of what is over a limit for now, which its sender sends again, nor of what is larger than a payload may be: the
    dead-letter topic would refuse it, and each refusal of Kafka's holds up everybody.
    """
    return [
        refused_item(item, why.reason, why.error, user, gateway, ingest_ms, topic)
        for item, why in refused
        if why.reason != Reason.RATE_LIMITED.value and len(item) <= PAYLOAD_BYTES
    ]


def refused_of(records: Sequence[IngestRecord], lost: Collection[int]) -> list[tuple[int, Rejection]]:
    """(index, why, for the sender) of those of `records` that Kafka refuses for ever; `lost`: their id()."""
    return [
        (
            at,
            Rejection(
                Reason.PAYLOAD_TOO_LARGE.value, f"Kafka refuses {len(record.value)} bytes; the record is a dead letter"
            ),
        )
        for at, record in enumerate(records)
        if id(record) in lost
    ]


def _unwritten(record: IngestRecord) -> _Unwritten:
    return _Unwritten(record.key, record.value, record.headers, record.ingest_ms)


def _dead(record: IngestRecord, rejected: Rejected, topic: str) -> IngestRecord:
    _, value, headers = to_record(rejected, topic, NOWHERE, datetime.now(UTC).isoformat())
    return IngestRecord(record.kind, record.key, value, headers, record.packet_id, record.ingest_ms)
