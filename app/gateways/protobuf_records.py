"""A batch in protobuf -> the record of each item, or why it is refused; MalformedBatch for what is no batch.

The payload of a record is the JSON that a device would have sent over MQTT (protobuf_payloads.py); its ids are those of
the topic, and are not in the payload. What nearly every item needs is written out in the two loops; an item of which
something is 0 or odd goes a longer way, as what is 0 may be what is not set. An extra_json that many items of a batch
have, a unit or a firmware, is looked at once.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from app.core.model.keys import CACHED_LENGTH
from app.core.model.records import Kind, Reason
from app.gateways.blocks.place import Place
from app.gateways.blocks.record_block import RecordBlock
from app.gateways.protobuf_batches import parse
from app.gateways.protobuf_payloads import (
    EMPTY,
    EXACT_US,
    LARGEST,
    EventFields,
    MetricFields,
    encode,
    event_fields,
    joined,
    metric_fields,
)
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import IOT, KIND, PREPARED, USERS, Arrival, Rejection, place_of
from app.gateways.trace_context import trace_headers
from app.ports import Account
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import MetricBatch

Found: TypeAlias = IngestRecord | Rejection
Outcome: TypeAlias = tuple[int, Sequence[Found]]  # the batch_id, and what each item came to, in order

ITEMS = 10_000  # IOT_GATEWAY_BATCH_MAX_ITEMS

_Devices: TypeAlias = dict[str, dict[str, Place]]  # user or node -> device or sensor
_TELEMETRY = Kind.TELEMETRY
_LEAST = -LARGEST
_NONE: dict[str, Place] = {}
_NOWHERE = Rejection("", "")  # in the place of an item that has no place

# Where each account may send, in each way: what `place_of` said (tools/bench/protobuf_records.py).
_known: dict[tuple[Account, str], _Devices] = {}
_remembered = 0


def events(account: Account, data: bytes, arrival: Arrival, max_items: int = ITEMS) -> Outcome:
    """The batch_id of an EventBatch, and the record of each item or why it is refused, in order. Raises MalformedBatch,
    also for more than `max_items`, and then none of its items is taken.
    """
    batch, unknown = parse(EventBatch, data, max_items)
    made, devices = _Items(), _devices(account, USERS)
    put, write = made.places.append, made.payloads.append
    latest, least, most, known = EXACT_US, _LEAST, LARGEST, dict[bytes, bytes]()
    for item in batch.events:
        sequence, us, temperature, battery = item.sequence_id, item.time_us, item.temperature, item.battery
        if sequence and battery and temperature and 0 < us < latest and least <= temperature <= most:
            fields = EventFields(sequence, us / 1e6, temperature, battery)
        elif isinstance(careful := event_fields(item), Rejection):
            made.put_odd(careful)
            continue
        else:
            fields = careful
        user, name, extra = item.user_id, item.device_id, item.extra_json
        place = devices.get(user, _NONE).get(name) or _place(account, USERS, user, name)
        if type(place) is Rejection:
            made.put_odd(place)
            continue
        payload = encode(fields)
        if extra:
            if (rest := known.get(extra)) is None or payload == EMPTY:
                joint = _with_extra(place, fields, extra, arrival, known)
                if not isinstance(joint, bytes):
                    made.put_odd(joint)
                    continue
                payload = joint
            else:
                payload = payload[:-1] + rest
        put(place)
        write(payload)
    return batch.batch_id, made.found(unknown, arrival)


def metrics(account: Account, data: bytes, arrival: Arrival, max_items: int = ITEMS) -> Outcome:
    """The batch_id of a MetricBatch, and the record of each item or why it is refused, in order. Raises MalformedBatch,
    also for more than `max_items`, and then none of its items is taken.
    """
    batch, unknown = parse(MetricBatch, data, max_items)
    made, devices = _Items(), _devices(account, IOT)
    put, write = made.places.append, made.payloads.append
    latest, least, most, known = EXACT_US, _LEAST, LARGEST, dict[bytes, bytes]()
    for item in batch.metrics:
        value, us, sequence = item.value, item.time_us, item.sequence_id
        if value and sequence and 0 < us < latest and least <= value <= most:
            fields = MetricFields(value, us / 1e6, sequence)
        elif isinstance(careful := metric_fields(item), Rejection):
            made.put_odd(careful)
            continue
        else:
            fields = careful
        node, name, extra = item.node_id, item.sensor_id, item.extra_json
        place = devices.get(node, _NONE).get(name) or _place(account, IOT, node, name)
        if type(place) is Rejection:
            made.put_odd(place)
            continue
        payload = encode(fields)
        if extra:
            if (rest := known.get(extra)) is None or payload == EMPTY:
                joint = _with_extra(place, fields, extra, arrival, known)
                if not isinstance(joint, bytes):
                    made.put_odd(joint)
                    continue
                payload = joint
            else:
                payload = payload[:-1] + rest
        put(place)
        write(payload)
    return batch.batch_id, made.found(unknown, arrival)


class _Items:
    """What the items of a batch come to."""

    __slots__ = ("odd", "payloads", "places")

    def __init__(self) -> None:
        self.places: list[Place | Rejection] = []
        self.payloads: list[bytes] = []
        self.odd: dict[int, Found] = {}  # by the item's number: what is refused, or has headers of its own

    def put_odd(self, one: Found) -> None:
        """The next item comes to `one`."""
        self.odd[len(self.places)] = one
        self.places.append(_NOWHERE)
        self.payloads.append(b"")

    def found(self, unknown: Mapping[int, Rejection], arrival: Arrival) -> Sequence[Found]:
        """What each item comes to; `unknown`: why items are refused beside what was put here."""
        places = cast("list[Place]", self.places)  # beside those of odd items, which nobody looks at
        payloads, odd, headers = self.payloads, {**self.odd, **unknown}, [KIND, *arrival.last]
        if places and not odd and arrival.traceparent is None:
            return RecordBlock(places, payloads, headers, arrival.ingest_ms, sum(map(len, payloads)))
        return [
            odd.get(at) or IngestRecord(_TELEMETRY, place.key, payload, [place.header, *headers], 0, arrival.ingest_ms)
            for at, (place, payload) in enumerate(zip(places, payloads, strict=True))
        ]


def _with_extra(
    place: Place, fields: EventFields | MetricFields, extra: bytes, arrival: Arrival, known: dict[bytes, bytes]
) -> bytes | Found:
    """The payload of an item with an extra_json; or its record, where the item has a trace of its own; or why it is
    refused.
    """
    if len(extra) > arrival.max_bytes:
        detail = f"extra_json has {len(extra)} bytes; at most {arrival.max_bytes} are taken"
        return Rejection(Reason.PAYLOAD_TOO_LARGE.value, detail)
    made = joined(fields, extra, known)
    if isinstance(made, Rejection):
        return made
    payload, traced = made
    if not traced or arrival.traceparent is not None:
        return payload
    headers = [place.header, KIND, *arrival.last, *trace_headers([], extra)]
    return IngestRecord(_TELEMETRY, place.key, payload, headers, 0, arrival.ingest_ms)


def _devices(account: Account, way: str) -> _Devices:
    return _known.get((account, way)) or {}  # an account without a device is not remembered


def _place(account: Account, way: str, owner: str, device: str) -> Place | Rejection:
    """Where an item goes whose device was not known when the batch began, or why the item is refused."""
    return _devices(account, way).get(owner, _NONE).get(device) or _learn(account, way, owner, device)


def _learn(account: Account, way: str, owner: str, device: str) -> Place | Rejection:
    """Ask, and remember where the account may send; all begin anew when there are too many."""
    global _remembered
    place = place_of(account, way, owner, device)
    if not isinstance(place, Rejection) and len(place.topic) <= CACHED_LENGTH:
        if _remembered >= PREPARED:
            _known.clear()
            _remembered = 0
        _known.setdefault((account, way), {}).setdefault(owner, {})[device] = place
        _remembered += 1
    return place
