"""Record -> Address: what the record is about and whose it is, by its headers and, without them, by its key."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, final

from msgspec import Struct
from msgspec.structs import replace

from app.core.model.arrival import INGEST
from app.core.model.fault import Fault, printable
from app.core.model.headers import GATEWAY, KIND, PACKET_ID, RETAINED, TOPIC
from app.core.model.identity import ids_fault
from app.core.model.keys import CACHED_LENGTH, CACHED_TOPICS
from app.core.model.namespaces import IOT, owner_of
from app.core.model.records import Kind, Reason, Record, Rejected, Stage
from app.core.routing.mqtt_topics import route as route_topic

Headers = Sequence[tuple[str, bytes]]

WAYS = (PACKET_ID, GATEWAY)  # a gateway puts one of these headers, or none, behind the first three
# A trace context comes behind these headers: a record whose last header is one of them has no trace context.
NO_CONTEXT_BEHIND = frozenset((TOPIC, KIND, INGEST, PACKET_ID, RETAINED, GATEWAY))


@final
class Address(Struct, frozen=True, gc=False):
    """What a record is about. Ids are empty where neither topic nor key names them: then the payload has to."""

    kind: Kind
    user_id: str
    device_id: str
    topic: str = ""  # the MQTT topic; empty for a record that names none
    lenient: bool = False  # iot/*: sequence_id and time may be missing
    owner: str = ""  # the owner of a device of iot/* (app.core.model.namespaces); else empty
    retained: bool = False  # the MQTT broker had kept the message for new subscribers: history, of unknown age


def address_of(record: Record) -> Address | Rejected:
    """Find a record's address, or why there is none. Never raises.

    The header `mqtt_topic` decides (the first, should there be several), whatever the header `kind` says. Without a
    topic `kind` decides and the ids come from a key `user/device`; a record without both headers is telemetry whose
    payload has the ids.
    """
    headers = record.headers
    if not headers:
        return BARE
    for name, value in headers:
        if name == "mqtt_topic" and value is not None:
            found = _cached(value) if len(value) <= CACHED_LENGTH else _by_topic(value)
            break
    else:
        found = _by_kind(record)
    if type(found) is Address:
        for name, value in headers:
            if name == RETAINED and value not in _NOT:
                return replace(found, retained=True)
        return found
    return Rejected(record, found.reason, found.stage, found.detail)


def address_in_order(record: Record, headers: Headers, annotated: list[Any]) -> Address | Rejected:
    """Find the same, in half the time, of a record whose `headers` begin with TOPIC, KIND and INGEST: a gateway's do.

    A record with more than what a gateway always gives is added to `annotated`.
    """
    topic, count = headers[0][1], len(headers)
    if topic is None or len(topic) > CACHED_LENGTH:
        annotated.append(record)
        return address_of(record)
    if count > 3 and (count > 4 or headers[3][0] not in WAYS):
        annotated.append(record)
        for name, _ in headers[3:]:
            if name == RETAINED:
                return address_of(record)
    found = _cached(topic)
    return found if type(found) is Address else Rejected(record, found.reason, found.stage, found.detail)


def _by_topic(header: bytes) -> Address | Fault:
    try:
        topic = header.decode()
    except UnicodeDecodeError:
        return Fault(Reason.UNKNOWN_TOPIC, Stage.ROUTE, f"header mqtt_topic is not UTF-8: {printable(header)}")
    found = route_topic(topic)
    if found.kind is Kind.UNKNOWN:
        detail = f"no such topic: {printable(topic)}; telemetry is users/{{user}}/devices/{{device}}/telemetry"
        return Fault(Reason.UNKNOWN_TOPIC, Stage.ROUTE, detail)
    lenient = topic.startswith("iot/")
    owner = owner_of(found.user_id, IOT) if lenient and found.device_id else ""
    address = Address(found.kind, found.user_id, found.device_id, topic, lenient, owner)
    return ids_fault(found.user_id, found.device_id) or address


_cached = lru_cache(maxsize=CACHED_TOPICS)(_by_topic)


_NOT = (None, b"", b"0")  # values of a header that says no
BARE = Address(Kind.TELEMETRY, "", "")  # no headers at all


def _by_kind(record: Record) -> Address | Fault:
    header = next((value for name, value in record.headers if name == "kind" and value is not None), None)
    if header is None or header == b"telemetry":
        return BARE
    try:
        kind = Kind(header.decode())
    except ValueError:  # also UnicodeDecodeError
        detail = f"header kind is {printable(header)}; known kinds are {', '.join(Kind)}"
        return Fault(Reason.UNSUPPORTED_KIND, Stage.ROUTE, detail)
    if kind is Kind.UNKNOWN:
        return Fault(Reason.UNKNOWN_TOPIC, Stage.ROUTE, "header kind is unknown and there is no header mqtt_topic")
    # A key that is not UTF-8 names nobody: the reader of this kind says what is missing.
    user_id, _, device_id = (record.key or b"").decode("utf-8", "ignore").partition("/")
    return ids_fault(user_id, device_id) or Address(kind, user_id, device_id)
