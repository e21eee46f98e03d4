"""A telemetry message, however it came in -> its record for the input topic, or why it is refused; never raises.

The record is what the same message would have been over MQTT, and a header `gateway`: all behind it is the same. What
is refused here is what the worker would have dead-lettered, so that the sender gets the reason.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

from app.core.model.fault import Fault, printable
from app.core.model.identity import ids_fault
from app.core.model.keys import CACHED_LENGTH
from app.core.model.records import Kind, Reason
from app.core.routing.mqtt_topics import route
from app.gateways.blocks.place import Place, made_place
from app.gateways.payloads.look import REFUSED, Seen, decode, fault, look, named, plain, sound
from app.gateways.record import IngestRecord
from app.gateways.trace_context import trace_headers
from app.ports import Account
from app.runtime.tracing.context import TRACEPARENT

NOT_ALLOWED = "not_allowed"  # the account may not publish this
PAYLOAD_BYTES = 1 << 20  # IOT_PAYLOAD_MAX_BYTES: what the worker takes
PREPARED = 32_768  # by tracemalloc some 810 bytes each: 27 MB at most, whatever names somebody makes up
USERS, IOT = "users", "iot"  # the ways of a topic: users/<user>/devices/<device>, iot/<node>/<sensor>

_Header = tuple[str, bytes]
_TELEMETRY = Kind.TELEMETRY  # an enum's member takes 110 ns to find, a global 10
KIND = ("kind", _TELEMETRY.value.encode())


@final
class Rejection(NamedTuple):
    """Why an item is refused: `reason` is a Reason's value or a way's own word, `error` a sentence for its sender."""

    reason: str
    error: str


class Arrival:
    """What the items of one request have in common: by which way, when, in which trace, and how large each may be."""

    __slots__ = ("gateway", "ingest_ms", "last", "max_bytes", "traceparent")

    def __init__(
        self, gateway: bytes, ingest_ms: int, traceparent: bytes | None = None, max_bytes: int = PAYLOAD_BYTES
    ) -> None:
        """`gateway`: b"http", b"tcp", b"grpc" or b"quic"; `ingest_ms`: milliseconds since 1970; `max_bytes`: of one
        payload.

        A traceparent that is not well formed is left out, and counted.
        """
        self.gateway, self.ingest_ms, self.max_bytes = gateway, ingest_ms, max_bytes
        trace: list[_Header] = []
        if traceparent is not None:
            trace = trace_headers([(TRACEPARENT, traceparent.decode("ascii", "replace"))], b"")
        self.traceparent = trace[-1][1] if trace else None
        self.last: list[_Header] = [("ingest_ms", b"%d" % ingest_ms), ("gateway", gateway), *trace]


_Places = dict[str, dict[str, Place]]  # by owner and device
_of_users: _Places = {}
_of_nodes: _Places = {}
_prepared = 0


def telemetry(account: Account, user: str, device: str, payload: bytes, arrival: Arrival) -> IngestRecord | Rejection:
    """The record of users/<user>/devices/<device>/telemetry, whose ids the caller has from elsewhere than the payload.

    `payload` is one JSON object, kept byte for byte. Refused: ids that cannot be in a topic (bad_id), an account that
    may not (not_allowed), a payload too large, no object, without a time or sequence_id, or of another device.
    """
    return _of_json(place_of(account, USERS, user, device), payload, arrival)


def node_telemetry(
    account: Account, node: str, sensor: str, payload: bytes, arrival: Arrival
) -> IngestRecord | Rejection:
    """The record of iot/<node>/<sensor>/telemetry; as `telemetry`, but time and sequence_id may be missing."""
    return _of_json(place_of(account, IOT, node, sensor), payload, arrival)


def sealed(
    account: Account, way: str, owner: str, device: str, payload: bytes, arrival: Arrival
) -> IngestRecord | Rejection:
    """The record of a payload that the gateway has made itself, of protobuf or a line, so that it is sound JSON.

    `way` is USERS or IOT. Ids, rights and size are asked; the payload is not looked at, nor for a traceparent.
    """
    place = place_of(account, way, owner, device)
    if isinstance(place, Rejection):
        return place
    if len(payload) > arrival.max_bytes:
        return _too_large(len(payload), arrival)
    headers = [place.header, KIND, *arrival.last]
    return IngestRecord(_TELEMETRY, place.key, payload, headers, 0, arrival.ingest_ms)


def item(account: Account, line: bytes, arrival: Arrival) -> IngestRecord | Rejection:
    """The record of one JSON object that names its device itself: user_id and device_id, or node_id and sensor_id.

    An event of HTTP, a line of TCP. The payload is `line`, byte for byte. Without user_id (or node_id) it is the
    account's own; without device_id (or sensor_id) that of an account bound to one device.
    """
    if len(line) > arrival.max_bytes:
        return _too_large(len(line), arrival)
    return _item(account, line, look(line), arrival)


def items(account: Account, lines: Sequence[bytes], arrival: Arrival) -> list[IngestRecord | Rejection]:
    """`item` of each of many, in order, in a third of the time where they are plain: flat, of the account's own
    devices.

    One microsecond each, of which a third is the JSON decoder's. Size and plainness are asked of all lines at once.
    """
    whole, most = b"".join(lines), arrival.max_bytes
    if len(whole) > most and max(map(len, lines)) > most:
        return [item(account, line, arrival) for line in lines]
    try:
        seen: Sequence[Seen | None] = list(map(decode, lines))
        # Each of them is an object, so that with one brace for each none has another in it.
        flat = whole.count(b"{") == len(lines) and b"[" not in whole and b"\\" not in whole and whole.isascii()
    except REFUSED:
        seen, flat = [look(line) for line in lines], False
    own, user, last, ms = own_places(account), account.user_id, arrival.last, arrival.ingest_ms
    found: list[IngestRecord | Rejection] = []
    put = found.append
    for line, one in zip(lines, seen, strict=True):
        if (
            one is not None
            and (place := own.get(one.device_id or "")) is not None
            and (one.user_id is None or one.user_id == user)
            and one.sequence_id is not None
            and (one.timestamp is not None or one.time is not None)
            and one.node_id is None
            and one.sensor_id is None
            and one.traceparent is None
            and (flat or plain(line))
        ):
            put(IngestRecord(_TELEMETRY, place.key, line, [place.header, KIND, *last], 0, ms))
        else:
            put(_item(account, line, one, arrival))
    return found


def own_places(account: Account) -> Mapping[str, Place]:
    """The account's devices that are prepared, by id, of which nothing else is to be asked: each may be sent for."""
    bound = account.device_id is not None or account.device_prefix
    return {} if bound or not account.rules.own_telemetry else _of_users.get(account.user_id, {})


def _item(account: Account, line: bytes, seen: Seen | None, arrival: Arrival) -> IngestRecord | Rejection:
    """`seen` None: the careful reader has to look."""
    doubtful = seen is None
    if seen is None:
        ids = named(line)
        if isinstance(ids, Fault):
            return Rejection(ids.reason.value, ids.detail)
        seen = ids
    place = _own_place(account, seen)
    if isinstance(place, Rejection):
        return place
    if doubtful or not sound(seen, line, place.owner, place.device, place.way == IOT):
        return _carefully(place, line, arrival)
    return _record(place, line, arrival, seen.traceparent is not None)


def place_of(account: Account, way: str, owner: str, device: str) -> Place | Rejection:
    """The device, if its ids can be in a topic and the account may speak for it, or why not; `way` is USERS or IOT."""
    places = (_of_users if way == USERS else _of_nodes).get(owner)
    place = (places.get(device) if places else None) or _prepare(way, owner, device)
    if isinstance(place, Rejection):
        return place
    plain = account.rules.own_telemetry if way == USERS else account.rules.own_nodes
    if plain and owner == account.user_id:
        if account.speaks_for(device):
            return place
    elif account.may_publish(place.topic):
        return place
    who, where = printable(account.user_id), printable(place.topic, 120)
    return Rejection(NOT_ALLOWED, f"the account {who} may not publish to {where}")


def _own_place(account: Account, seen: Seen) -> Place | Rejection:
    if seen.node_id is not None or (seen.sensor_id is not None and seen.device_id is None):
        way, owner, device, name = IOT, seen.node_id, seen.sensor_id or account.device_id, "sensor_id"
    else:
        way, owner, device, name = USERS, seen.user_id, seen.device_id or account.device_id, "device_id"
    if device is None:
        error = f"{name} is missing; give user_id and device_id, or node_id and sensor_id"
        return Rejection(Reason.MISSING_FIELD.value, error)
    return place_of(account, way, owner or account.user_id, device)


def _prepare(way: str, owner: str, device: str) -> Place | Rejection:
    for name in (owner, device):
        if not name or name in (".", "..") or "/" in name or "+" in name or "#" in name:
            error = f"{printable(name)!r} is no id: an id is one level of a topic, without / + #, and not . or .."
            return Rejection(Reason.BAD_ID.value, error)
    topic = f"users/{owner}/devices/{device}/telemetry" if way == USERS else f"iot/{owner}/{device}/telemetry"
    try:
        header = ("mqtt_topic", topic.encode())
    except UnicodeEncodeError:
        return Rejection(Reason.LONE_SURROGATE.value, "an id contains half of a surrogate pair; leave it out")
    if found := ids_fault(owner, device):
        return Rejection(found.reason.value, found.detail)
    made = made_place(route(topic).key, header, topic, USERS if way == USERS else IOT, owner, device)
    if len(topic) <= CACHED_LENGTH:
        _remember(made)
    return made


def _remember(place: Place) -> None:
    global _prepared
    if _prepared >= PREPARED:
        _of_users.clear()
        _of_nodes.clear()
        _prepared = 0
    _prepared += 1
    (_of_users if place.way == USERS else _of_nodes).setdefault(place.owner, {})[place.device] = place


def _of_json(place: Place | Rejection, payload: bytes, arrival: Arrival) -> IngestRecord | Rejection:
    if isinstance(place, Rejection):
        return place
    if len(payload) > arrival.max_bytes:
        return _too_large(len(payload), arrival)
    seen = look(payload)
    if seen is None or not sound(seen, payload, place.owner, place.device, place.way == IOT):
        return _carefully(place, payload, arrival)
    return _record(place, payload, arrival, seen.traceparent is not None)


def _carefully(place: Place, payload: bytes, arrival: Arrival) -> IngestRecord | Rejection:
    """A payload that one look does not settle."""
    found = fault(payload, place.owner, place.device, place.topic, place.way == IOT)
    return Rejection(found.reason.value, found.detail) if found else _record(place, payload, arrival, True)


def _record(place: Place, payload: bytes, arrival: Arrival, traced: bool) -> IngestRecord:
    """`traced`: a trace context may be in the payload."""
    headers = [place.header, KIND, *arrival.last]
    if traced and arrival.traceparent is None:
        headers += trace_headers([], payload)
    return IngestRecord(_TELEMETRY, place.key, payload, headers, 0, arrival.ingest_ms)


def _too_large(size: int, arrival: Arrival) -> Rejection:
    return Rejection(Reason.PAYLOAD_TOO_LARGE.value, f"payload has {size} bytes; at most {arrival.max_bytes} are taken")
