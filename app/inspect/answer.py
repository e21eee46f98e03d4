"""What is known of a message as JSON for a machine."""

from typing import Any

from msgspec import Raw

from app.inspect.decoding import header, trace_id_of
from app.inspect.search import Search
from app.inspect.sighting import FoundLetter, Sighting
from app.inspect.spans import FoundSpan
from app.inspect.text import time_of
from app.inspect.where_is import MessageTrace, Window
from app.postgres.queries.one_reading import StoredRow

GATEWAY = "gateway"  # header: the way in


def as_json(
    found: MessageTrace, window: Window, search: Search, spans: list[FoundSpan] | None, now_ms: int
) -> dict[str, Any]:
    """All that is known, as built-in types for JSON: times are RFC 3339, ages seconds. `spans` None: Tempo was not
    asked for them, or did not answer; `now_ms` is milliseconds since 1970.
    """
    sought = found.sought
    return {
        "state": found.state,
        "user_id": sought.user_id,
        "device_id": sought.device_id,
        "sequence_id": sought.sequence_id,
        "trace_id": sought.trace_id,
        "records": [_record(one, now_ms) for one in found.sightings],
        "rows": [_row(one) for one in found.rows],
        "dead_letters": [_letter(one, now_ms) for one in found.letters],
        "search": {"since": time_of(window.begin_ms), "records_read": search.read, "complete": search.complete},
        "spans": spans,
        "notes": found.notes,
    }


def gateway_of(record: Any) -> str | None:
    """The way by which a record came in (http, tcp, ...), as far as its headers say; None: by MQTT, or not known."""
    way = header(record, GATEWAY)
    return way.decode("utf-8", "replace") if way is not None else None


def _record(one: Sighting, now_ms: int) -> dict[str, Any]:
    record, decoded = one.found.record, one.found.decoded
    return {
        "state": one.state,
        "why": one.why,
        **_place(record, now_ms),
        "kind": decoded.kind,
        "user_id": decoded.user_id,
        "device_id": decoded.device_id,
        "sequence_id": decoded.sequence_id,
        "gateway": gateway_of(record),
        "trace_id": trace_id_of(record),
        "ahead": one.ahead,
        "row": _row(one.row) if one.row else None,
        "dead_letter": _letter(one.letter, now_ms) if one.letter else None,
    }


def _letter(one: FoundLetter, now_ms: int) -> dict[str, Any]:
    letter = one.letter
    return {
        **_place(one.record, now_ms),
        "reason": letter.reason,
        "stage": letter.stage,
        "error": letter.error,
        "refused_at": letter.timestamp,
        "replay_count": letter.replay_count,
        "original_topic": letter.original_topic,
        "source": {"topic": letter.source_topic, "partition": letter.source_partition, "offset": letter.source_offset},
    }


def _place(record: Any, now_ms: int) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": time_of(record.timestamp),
        "age_seconds": (now_ms - record.timestamp) / 1000,
    }


def _row(row: StoredRow) -> Raw:
    return Raw(row.columns.encode())
