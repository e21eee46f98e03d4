"""A batch in protobuf -> the record of each item, or why it is refused; MalformedBatch for what is no batch.

The payload of a record is the JSON that a device would have sent over MQTT (protobuf_payloads.py); its ids are those of
the topic, and are not in the payload. What nearly every item needs is written out in the two loops; an item of which
something is 0 or odd goes a longer way, as what is 0 may be what is not set. An extra_json that many items of a batch
have, a unit or a firmware, is looked at once.
"""

from typing import TypeAlias

from app.core.model.keys import CACHED_LENGTH
from app.core.model.records import Kind, Reason
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
from app.gateways.telemetry_record import IOT, PREPARED, USERS, Arrival, Rejection, place_of
from app.gateways.trace_context import trace_headers
from app.ports import Account
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import MetricBatch

Outcome: TypeAlias = tuple[int, list[IngestRecord | Rejection]]  # the batch_id, and what each item came to, in order

ITEMS = 10_000  # IOT_GATEWAY_BATCH_MAX_ITEMS

_Device: TypeAlias = tuple[bytes, tuple[str, bytes]]  # key, header mqtt_topic
_Devices: TypeAlias = dict[str, dict[str, _Device]]  # user or node -> device or sensor
_TELEMETRY = Kind.TELEMETRY
_KIND = ("kind", _TELEMETRY.value.encode())
_LEAST = -LARGEST
_NONE: dict[str, _Device] = {}

# Where each account may send, in each way: what `place_of` said (tests/bench/protobuf_records.py).
_known: dict[tuple[Account, str], _Devices] = {}
_remembered = 0


def events(account: Account, data: bytes, arrival: Arrival, max_items: int = ITEMS) -> Outcome:
    """The batch_id of an EventBatch, and the record of each item or why it is refused, in order. Raises MalformedBatch,
    also for more than `max_items`, and then none of its items is taken.
    """
    batch, unknown = parse(EventBatch, data, max_items)
    found: list[IngestRecord | Rejection] = []
    add, devices, last, ms = found.append, _devices(account, USERS), arrival.last, arrival.ingest_ms
    latest, least, most, known = EXACT_US, _LEAST, LARGEST, dict[bytes, bytes]()
    for item in batch.events:
        sequence, us, temperature, battery = item.sequence_id, item.time_us, item.temperature, item.battery
        if sequence and battery and temperature and 0 < us < latest and least <= temperature <= most:
            fields: EventFields | Rejection = EventFields(sequence, us / 1e6, temperature, battery)
        else:
            fields = event_fields(item)
        user, name, extra = item.user_id, item.device_id, item.extra_json
        device = devices.get(user, _NONE).get(name)
        if device is None or type(fields) is Rejection:
            add(_record(account, USERS, (user, name), fields, extra, arrival))
            continue
        payload = encode(fields)
        if extra:
            if (rest := known.get(extra)) is None or payload == EMPTY:
                add(_with_extra(device, fields, extra, arrival, known))
                continue
            payload = payload[:-1] + rest
        add(IngestRecord(_TELEMETRY, device[0], payload, [device[1], _KIND, *last], 0, ms))
    for index, refusal in unknown.items():
        found[index] = refusal
    return batch.batch_id, found


def metrics(account: Account, data: bytes, arrival: Arrival, max_items: int = ITEMS) -> Outcome:
    """The batch_id of a MetricBatch, and the record of each item or why it is refused, in order. Raises MalformedBatch,
    also for more than `max_items`, and then none of its items is taken.
    """
    batch, unknown = parse(MetricBatch, data, max_items)
    found: list[IngestRecord | Rejection] = []
    add, devices, last, ms = found.append, _devices(account, IOT), arrival.last, arrival.ingest_ms
    latest, least, most, known = EXACT_US, _LEAST, LARGEST, dict[bytes, bytes]()
    for item in batch.metrics:
        value, us, sequence = item.value, item.time_us, item.sequence_id
        if value and sequence and 0 < us < latest and least <= value <= most:
            fields: MetricFields | Rejection = MetricFields(value, us / 1e6, sequence)
        else:
            fields = metric_fields(item)
        node, name, extra = item.node_id, item.sensor_id, item.extra_json
        device = devices.get(node, _NONE).get(name)
        if device is None or type(fields) is Rejection:
            add(_record(account, IOT, (node, name), fields, extra, arrival))
            continue
        payload = encode(fields)
        if extra:
            if (rest := known.get(extra)) is None or payload == EMPTY:
                add(_with_extra(device, fields, extra, arrival, known))
                continue
            payload = payload[:-1] + rest
        add(IngestRecord(_TELEMETRY, device[0], payload, [device[1], _KIND, *last], 0, ms))
    for index, refusal in unknown.items():
        found[index] = refusal
    return batch.batch_id, found


def _record(
    account: Account,
    way: str,
    ids: tuple[str, str],
    fields: EventFields | MetricFields | Rejection,
    extra: bytes,
    arrival: Arrival,
) -> IngestRecord | Rejection:
    """The record of an item of a device that is not known yet, or why the item is refused."""
    if isinstance(fields, Rejection):
        return fields
    device = _devices(account, way).get(ids[0], _NONE).get(ids[1]) or _learn(account, way, *ids)
    return device if isinstance(device, Rejection) else _with_extra(device, fields, extra, arrival, {})


def _with_extra(
    device: _Device, fields: EventFields | MetricFields, extra: bytes, arrival: Arrival, known: dict[bytes, bytes]
) -> IngestRecord | Rejection:
    """The record of an item with an extra_json, if it has one, or why the item is refused."""
    headers = [device[1], _KIND, *arrival.last]
    if not extra:
        return IngestRecord(_TELEMETRY, device[0], encode(fields), headers, 0, arrival.ingest_ms)
    if len(extra) > arrival.max_bytes:
        detail = f"extra_json has {len(extra)} bytes; at most {arrival.max_bytes} are taken"
        return Rejection(Reason.PAYLOAD_TOO_LARGE.value, detail)
    made = joined(fields, extra, known)
    if isinstance(made, Rejection):
        return made
    payload, traced = made
    if traced and arrival.traceparent is None:
        headers += trace_headers([], extra)
    return IngestRecord(_TELEMETRY, device[0], payload, headers, 0, arrival.ingest_ms)


def _devices(account: Account, way: str) -> _Devices:
    return _known.get((account, way)) or {}  # an account without a device is not remembered


def _learn(account: Account, way: str, owner: str, device: str) -> _Device | Rejection:
    """Ask, and remember where the account may send; all begin anew when there are too many."""
    global _remembered
    place = place_of(account, way, owner, device)
    if isinstance(place, Rejection):
        return place
    found = place.key, place.header
    if len(place.topic) <= CACHED_LENGTH:
        if _remembered >= PREPARED:
            _known.clear()
            _remembered = 0
        _known.setdefault((account, way), {}).setdefault(owner, {})[device] = found
        _remembered += 1
    return found
