"""A dead letter -> what is put back: the original, mended where the command says so, or why the letter is left out.

The record keeps its `ingest_ms`, by which limits on time judge it as they did at first, and counts its replays. It is
no delivery of an MQTT broker any more: the headers that say so are gone, or a worker that refuses it once more would
take it for a redelivery whose dead letter is there.
"""

from enum import StrEnum

import msgspec
from msgspec import Raw, Struct

from app.core.deadletters.letters import refused_ms
from app.core.model.arrival import AHEAD_MS, EARLIEST_MS, INGEST, REPLAYED
from app.core.model.headers import KIND, PACKET_ID, REDELIVERED, TOPIC
from app.core.routing.mqtt_topics import route
from app.deadletters import json_patch
from app.deadletters.letter import Letter
from app.kafka.messages import OutgoingMessage

_DROPPED = frozenset((PACKET_ID, REDELIVERED, REPLAYED))
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class ArrivalTime(StrEnum):
    """Whose time of arrival a record has that is put back."""

    KEEP = "keep"
    NOW = "now"


class LeftOut(Struct, frozen=True):
    """Why a letter is not put back."""

    why: str  # one of few, to count by
    detail: str


class Mending(Struct, frozen=True):
    """What is changed of every record."""

    arrival: ArrivalTime = ArrivalTime.KEEP
    fields: dict[str, Raw] = {}  # of the payload, which must be a JSON object
    patch: tuple[json_patch.Operation, ...] = ()

    @property
    def words(self) -> str:
        """The changes, for the name of a replay."""
        return repr(
            (self.arrival.value, sorted((name, bytes(value)) for name, value in self.fields.items()), self.patch)
        )


def field_of(text: str) -> tuple[str, Raw]:
    """The field and value of `FIELD=VALUE`: VALUE is JSON, and a text where it is no JSON. Raises ValueError."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is not FIELD=VALUE")
    try:
        return name, Raw(json_patch.dump(json_patch.parse(value.encode())))
    except (ValueError, RecursionError):
        return name, Raw(_encode(value))


def mended(letter: Letter, mending: Mending, now_ms: int) -> OutgoingMessage | LeftOut:
    """The record that goes back to the input topic. `now_ms`: milliseconds since 1970. Never raises."""
    dead = letter.dead
    payload = None if dead.tombstone else dead.payload
    if mending.fields or mending.patch:
        found = _mended_payload(payload or b"", mending)
        if isinstance(found, LeftOut):
            return found
        payload = found
    headers, topic = _headers(letter, mending.arrival, now_ms)
    key, partition = dead.key, None
    if key is None and topic:
        key = route(topic).key
    elif key is None:
        partition = max(0, dead.source_partition)
    return OutgoingMessage(key, payload, headers, partition)


def _mended_payload(payload: bytes, mending: Mending) -> bytes | LeftOut:
    """The payload with its fields set, then patched."""
    try:
        if mending.fields:
            payload = _encode({**_fields(payload), **mending.fields})
        if mending.patch:
            payload = json_patch.dump(json_patch.apply(mending.patch, json_patch.parse(payload)))
    except json_patch.PatchError as error:
        return LeftOut("the patch does not fit", str(error))
    except (ValueError, RecursionError) as error:
        return LeftOut("not a JSON object" if mending.fields else "not JSON", str(error))
    return payload


def _headers(letter: Letter, arrival: ArrivalTime, now_ms: int) -> tuple[list[tuple[str, bytes]], str]:
    """The record's headers, and the MQTT topic among them that was not there before."""
    dead = letter.dead
    kept = [(name, value) for name, value in dead.headers if name not in _DROPPED]
    names = {name for name, _ in kept}
    count = (REPLAYED, b"%d" % (dead.replay_count + 1))
    topic = ""
    if TOPIC not in names and dead.original_topic != dead.source_topic and "/" in dead.original_topic:
        topic = dead.original_topic
        kept = [header for header in kept if header[0] != KIND]
        kept[:0] = [(TOPIC, topic.encode("utf-8", "replace")), (KIND, route(topic).kind.value.encode())]
    if arrival is ArrivalTime.NOW:
        kept = _with_arrival([header for header in kept if header[0] != INGEST], now_ms)
    elif INGEST not in names:
        kept = _with_arrival(kept, _first_arrival(letter, now_ms))
    return [*kept, count], topic


def _with_arrival(headers: list[tuple[str, bytes]], ms: int) -> list[tuple[str, bytes]]:
    """The headers with `ingest_ms` where a gateway puts it, behind the topic and the kind."""
    at = 2 if [name for name, _ in headers[:2]] == [TOPIC, KIND] else len(headers)
    return [*headers[:at], (INGEST, b"%d" % ms), *headers[at:]]


def _first_arrival(letter: Letter, now_ms: int) -> int:
    """When the original came in, as near as its letter says: when it was refused, or when the letter was written."""
    for ms in (refused_ms(letter.dead), letter.at_ms):
        if ms is not None and EARLIEST_MS <= ms <= now_ms + AHEAD_MS:
            return ms
    return now_ms
