"""Records of the input topic -> SinkRecords, by the decoder of the worker; a record that a worker rejects is skipped.

The limits on time are checked against the record's arrival, so a sink decides as a worker did, whenever the sink reads
the record. A sink does not know the state of a device, so a command passes whatever that state is.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from app.core.alerts.commands import command
from app.core.batch.output import EMPTY, HISTORY
from app.core.decode.dated import is_dated
from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.arrival import INGEST, TIMES, Times, arrival
from app.core.model.headers import GATEWAY, KIND, PACKET_ID, TOPIC
from app.core.model.keys import CACHED_LENGTH, CACHED_TOPICS
from app.core.model.records import Kind, Reading, Rejected
from app.core.processing.control_effects import config_effect, status_effect
from app.core.routing.address import Address, address_in_order, address_of
from app.settings import Settings
from app.sinks.filters import RecordFilter, passing
from app.sinks.record import SinkRecord

_TELEMETRY = Kind.TELEMETRY  # a global is quicker to look up than a member
_WAYS = (PACKET_ID, GATEWAY)  # a gateway adds at most one of these headers after the first three


class SinkDecoder:
    """Decodes for one sink, and counts the records that are left out."""

    def __init__(self, settings: Settings) -> None:
        limits = DecodeLimits(
            settings.time_future_max, settings.time_past_max, settings.payload_max_bytes, settings.payload_max_depth
        )
        self._schema, self._topic = settings.telemetry_schema, settings.kafka_topic
        self._decoder, self._filter = Decoder(limits, self._schema), RecordFilter(settings)
        self._times: Times = {}
        self._places: dict[bytes | None, tuple[Address, str]] = {}  # topic -> its address, and the key of the device
        self._annotated: list[Any] = []
        self._clock = 0
        self.skipped: Counter[str] = Counter()  # by reason, since the start
        self.filtered = 0  # since the start

    def decode(self, partition: int, records: Sequence[Any]) -> list[SinkRecord]:
        """The records of a partition that the sink is given, in their order. Never raises for any record."""
        self._begin()
        topic, decode, places = self._topic, self._decoder.decode, self._places
        times, clock, new, kind = self._times, self._clock, SinkRecord, _TELEMETRY
        found: list[SinkRecord] = []
        add = found.append
        for record in records:
            headers = record.headers
            count = len(headers)
            if (
                2 < count < 5
                and headers[0][0] == TOPIC
                and headers[1][0] == KIND
                and headers[2][0] == INGEST
                and (count == 3 or headers[3][0] in _WAYS)
                and (place := places.get(headers[0][1]))
            ):
                address, key = place
                at = times.get(headers[2]) or arrival(record, clock, times)
                reading = decode(record, address, at)
                if type(reading) is Rejected:
                    self._skip(reading)
                    continue
                user, device, data = address.user_id, address.device_id, record.value
                add(new(topic, partition, record.offset, at, kind, user, device, key, reading, data, headers, record))
            else:
                self._decode_slowly(found, partition, record)
        return found if self._filter.fields is None else self._with_fields(found)

    def _decode_slowly(self, found: list[SinkRecord], partition: int, record: Any) -> None:
        """A record of any kind, from a device that was not seen before, or whose headers are unusual."""
        headers, owners = record.headers, self._filter.owners
        in_order = len(headers) > 2 and (headers[0][0], headers[1][0], headers[2][0]) == (TOPIC, KIND, INGEST)
        address = address_in_order(record, headers, self._annotated) if in_order else address_of(record)
        at = arrival(record, self._clock, self._times)
        if type(address) is Rejected:
            self._skip(address)
            return
        if address.kind is not _TELEMETRY:
            self._other(found, partition, record, address, at)
            return
        named = bool(address.user_id)
        if not self._filter.telemetry or (owners and named and not owners(address.user_id, address.device_id)):
            self.filtered += 1
            return
        reading = self._decoder.decode(record, address, at)
        if type(reading) is Rejected or (address.retained and not is_dated(record.value)):
            self._skip(reading)
            return
        user, device = reading.user_id, reading.device_id
        if owners and not named and not owners(user, device):
            self.filtered += 1
            return
        key, place = f"{address.owner or user}/{device}", (self._topic, partition, record.offset)
        found.append(SinkRecord(*place, at, _TELEMETRY, user, device, key, reading, record.value, headers, record))
        if in_order and address.device_id and not address.retained and len(headers[0][1]) <= CACHED_LENGTH:
            self._places[headers[0][1]] = address, key

    def _with_fields(self, found: list[SinkRecord]) -> list[SinkRecord]:
        kept = passing(self._filter.fields, found) if self._filter.fields else found
        self.filtered += len(found) - len(kept)
        return kept

    def _begin(self) -> None:
        clock = int(time.time() * 1000)
        if len(self._times) > TIMES or clock < self._clock:
            self._times = {}
        self._clock = clock
        if len(self._places) >= CACHED_TOPICS:
            self._places.clear()
        self._annotated.clear()
        self._decoder.begin()

    def _skip(self, found: Reading | Rejected) -> None:
        """Count a record that a worker rejects, or a retained reading without a time."""
        if not isinstance(found, Rejected):
            self.skipped[HISTORY] += 1
            return
        record = found.record
        cleared = not record.value and any(name == TOPIC for name, _ in record.headers)
        self.skipped[EMPTY if cleared else str(found.reason)] += 1

    def _other(self, found: list[SinkRecord], partition: int, record: Any, address: Address, at: int) -> None:
        """A record that is not telemetry: append it if the worker would take it, else count why it is left out."""
        user, device, kind = address.user_id, address.device_id, address.kind
        owners = self._filter.owners
        if kind not in self._filter.kinds or (owners and not owners(user, device)):
            self.filtered += 1
            return
        if not record.value and address.topic:
            self.skipped[EMPTY] += 1
            return
        outcome: object = None
        match kind:
            case Kind.STATUS:
                outcome = status_effect(record, address, at)
            case Kind.CONFIG:
                outcome = config_effect(record, address, at, partition, self._schema)
            case Kind.ALERTS_MANAGE if address.retained:
                self.skipped[HISTORY] += 1
                return
            case Kind.ALERTS_MANAGE:
                outcome = command(record, address, at)
        if isinstance(outcome, Rejected):
            self._skip(outcome)
            return
        owner = address.owner or (f"iot/{user}" if address.topic.startswith("iot/") else user)
        key, place = f"{owner}/{device}" if device else owner, (self._topic, partition, record.offset)
        value = record.value or b""
        found.append(SinkRecord(*place, at, kind, user, device, key, None, value, record.headers, record))
