"""Rejected -> the record for the dead-letter topic, and back again, each byte of the original in it.

Base64 makes a payload of 1 MiB a value of 1.4 MB: the dead-letter topic needs a larger max.message.bytes than the
input topic, and the producer a max_request_size to match.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType
from xxhash import xxh3_128_digest

from app.core.model.arrival import INGEST, REPLAYED, arrived_ms
from app.core.model.headers import PACKET_ID
from app.core.model.records import Record, Rejected

Headers = Sequence[tuple[str, bytes]]

REASON = "reason"
# Names that tools for dead letters of Kafka read. Numbers are decimal text; a time is in milliseconds since 1970.
ORIGINAL_TOPIC, ORIGINAL_PARTITION = "x-original-topic", "x-original-partition"
ORIGINAL_OFFSET, ORIGINAL_TIMESTAMP = "x-original-offset", "x-original-timestamp"
EXCEPTION = "x-exception-message"
# Headers of a dead letter that are not the original's.
OWN_HEADERS = frozenset((REASON, ORIGINAL_TOPIC, ORIGINAL_PARTITION, ORIGINAL_OFFSET, ORIGINAL_TIMESTAMP, EXCEPTION))


class Origin(Struct, frozen=True):
    """Where the original was read. A key that is not UTF-8 is in `key_base64`; `key` and `key_base64` are never both
    set.
    """

    topic: str
    partition: int
    offset: int
    key: str | None
    key_base64: str | UnsetType = UNSET
    tombstone: bool | UnsetType = UNSET  # true: the original had no value at all, not an empty one


class Envelope(Struct, frozen=True):
    """The value of a dead letter as JSON. The first four fields are published and never change."""

    original_topic: str  # the MQTT topic when there was one, else the Kafka topic
    error: str
    timestamp: str
    payload_base64: str
    reason: str
    stage: str
    source: Origin
    replay_count: int


class DeadLetter(Struct, frozen=True):
    """A dead letter read back: the original record, where it was read and what was wrong with it."""

    original_topic: str
    error: str
    reason: str
    stage: str
    timestamp: str
    replay_count: int
    source_topic: str
    source_partition: int
    source_offset: int
    key: bytes | None
    payload: bytes
    tombstone: bool  # the original's value was None; `payload` is then empty
    headers: Headers


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode


def to_record(
    rejected: Rejected, topic: str, partition: int, now_iso: str
) -> tuple[bytes | None, bytes, list[tuple[str, bytes]]]:
    """Make (key, value, headers) of a dead letter; `topic` and `partition` are where the record was read. Never raises.

    Key and headers are the original's, with OWN_HEADERS added; those of an earlier rejection are replaced. `ingest_ms`
    is added where the original had none to believe: a replay has another timestamp, by which it must not be judged.
    """
    record = rejected.record
    error = f"{rejected.detail} ({rejected.stage}: {rejected.reason})"
    key, key_base64 = _as_text(record.key)
    tombstone = True if record.value is None else UNSET
    envelope = Envelope(
        original_topic=_mqtt_topic(record.headers) or topic,
        error=error,
        timestamp=now_iso,
        payload_base64=b64encode(record.value or b"").decode(),
        reason=rejected.reason,
        stage=rejected.stage,
        source=Origin(topic, partition, record.offset, key, key_base64, tombstone),
        replay_count=_replay_count(record.headers),
    )
    headers = [header for header in record.headers if header[0] not in OWN_HEADERS]
    headers = [*_with_arrival(headers, record, now_iso), (REASON, rejected.reason.encode())]
    headers += _origin(record, topic, partition)
    headers.append((EXCEPTION, error.encode("utf-8", "backslashreplace")))
    return record.key, _encode(envelope), headers


def from_record(value: bytes | None, headers: Headers) -> DeadLetter | None:
    """Read a dead letter back; None for a record that to_record did not write. Never raises."""
    try:
        envelope = _decode(value or b"")
        source = envelope.source
        key = None if source.key is None else source.key.encode()
        if source.key_base64 is not UNSET:
            key = b64decode(source.key_base64, validate=True)
        payload = b64decode(envelope.payload_base64, validate=True)
    except (ValueError, RecursionError):  # msgspec's and binascii's errors are ValueErrors
        return None
    return DeadLetter(
        original_topic=envelope.original_topic,
        error=envelope.error,
        reason=envelope.reason,
        stage=envelope.stage,
        timestamp=envelope.timestamp,
        replay_count=envelope.replay_count,
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        key=key,
        payload=payload,
        tombstone=source.tombstone is True,
        headers=[header for header in headers if header[0] not in OWN_HEADERS],
    )


def delivery_mark(payload: bytes, headers: Headers) -> bytes | None:
    """A mark that a message and its redelivery over MQTT share, as both have one packet id; None without a packet id.

    A bridge that dies after Kafka's ack and before its PUBACK gets the message again: a second record, with an offset
    of its own. Rows are distinguished by their primary key, dead letters by this mark.
    """
    known = dict(headers)
    packet_id = known.get(PACKET_ID)
    if packet_id is None:
        return None
    return xxh3_128_digest(b"\0".join((known.get("mqtt_topic") or b"", packet_id, payload)))


def _origin(record: Record, topic: str, partition: int) -> list[tuple[str, bytes]]:
    """Where the record was read, as other tools read it; of a message that never became a record, its topic and time
    alone.
    """
    at = (ORIGINAL_TIMESTAMP, b"%d" % record.timestamp)
    if partition < 0:
        return [(ORIGINAL_TOPIC, topic.encode()), at]
    place = ((ORIGINAL_PARTITION, b"%d" % partition), (ORIGINAL_OFFSET, b"%d" % record.offset))
    return [(ORIGINAL_TOPIC, topic.encode()), *place, at]


def _with_arrival(headers: list[tuple[str, bytes]], record: Record, now_iso: str) -> list[tuple[str, bytes]]:
    """The headers with an `ingest_ms` to believe, ahead of any `ingest_ms` that is not believed."""
    at = arrived_ms(record, int(datetime.fromisoformat(now_iso).timestamp() * 1000))
    header = (INGEST, b"%d" % at)
    if header in headers:
        return headers
    return [header, *headers] if any(name == INGEST for name, _ in headers) else [*headers, header]


def _as_text(key: bytes | None) -> tuple[str | None, str | UnsetType]:
    if key is None:
        return None, UNSET
    try:
        return key.decode(), UNSET
    except UnicodeDecodeError:
        return None, b64encode(key).decode()


def _mqtt_topic(headers: Headers) -> str:
    topic = next((value for name, value in headers if name == "mqtt_topic" and value is not None), b"")
    return topic.decode("utf-8", "replace")


def _replay_count(headers: Headers) -> int:
    """How often the record was replayed, by the last of the headers in which replays count."""
    counts = [value for name, value in headers if name == REPLAYED and value is not None]
    return int(counts[-1]) if counts and counts[-1].isdigit() and len(counts[-1]) <= 9 else 0
