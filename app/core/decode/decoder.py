"""Telemetry record -> Reading, or Rejected with the reason: nothing that any bytes can make raise.

Most payloads take the fast way: one typed decode of the fields that have a column, one decode that keeps the JSON of
every other field unchanged, and a few searches for what PostgreSQL would not take. A payload that the fast way refuses
or suspects is read again field by field (strict_json.py, fields.py), and this second reading decides.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct, ValidationError
from xxhash import xxh3_64_intdigest

from app.core.decode.fields import from_epoch, read_column, read_known
from app.core.decode.learned_shape import MISSES_MAX, LearnedShape
from app.core.decode.strict_json import jsonb_fault, read_fields
from app.core.model.arrival import moment_of, said_ms
from app.core.model.fault import Fault
from app.core.model.identity import is_own, own_fault
from app.core.model.records import Reading, Reason, Record, Rejected, Row, Stage
from app.core.routing.address import Address
from app.core.schema.codegen import reading_maker
from app.core.schema.schema import TIME, Schema


class DecodeLimits(Struct, frozen=True):
    """The limits of what is taken; the defaults are the same as in the settings. Times are seconds, sizes bytes."""

    time_future_max: float = 300.0
    time_past_max: float = 90 * 86400.0
    payload_max_bytes: int = 1 << 20
    payload_max_depth: int = 32


_IDS = ("user_id", "device_id", "sequence_id")
_YEARS_300 = 300 * 365 * 86400.0  # keeps time bounds within what datetime and timestamptz can say
_SPAN_MAX = 64_000  # milliseconds of arrival that share the bounds of the fast way
_LONG = 16_000  # shorter numbers without an exponent fit into numeric

_raw_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
# Four digits of exponent can be too many for numeric. Two patterns, since one first letter is found with memchr.
long_exponent = re.compile("e[-+]?[0-9]{4}").search
long_capital_exponent = re.compile("E[-+]?[0-9]{4}").search


class TimeBounds(NamedTuple):
    """Every record that came in from `since` on and before `until`, milliseconds since 1970, may bear a time from
    `earliest` to `latest`; a time beyond them is judged alone.
    """

    since: int
    until: int
    earliest: datetime
    latest: datetime


class DecodedRun(NamedTuple):
    """For each record its reading and its row. A record that is refused has a Rejected and no row, one that is no
    telemetry has None and no row. Not every reading is a Reading; each has the attributes of one.
    """

    readings: Sequence[Any]
    rows: Sequence[Row | None]


class Decoder:
    """Decodes telemetry of a schema within some limits. Keeps time bounds and the shape of the payloads before.

    A repeated JSON key's last value counts, as in jsonb. `timestamp` wins over `time`, which then stays in `extra`; a
    time is rounded to the nearest microsecond.
    """

    def __init__(self, limits: DecodeLimits, schema: Schema) -> None:
        self._limits = limits
        self._columns = schema.columns
        self._typed, self._reading, self._row = schema.typed, schema.reading, schema.row
        self._careful = tuple(one for one in schema.columns if one.careful)
        names = tuple(one.name for one in schema.columns)
        plain = _IDS + tuple(one.fields[0] for one in schema.columns if not one.careful)
        care = self._read_with_care if self._careful else None
        self._make = reading_maker(schema.reading, names, plain, _encode, care)
        misses_max = 0 if self._careful else MISSES_MAX
        self.shape = LearnedShape(TIME, schema.columns, schema.reading, _encode, misses_max)
        self.plain_bytes = min(limits.payload_max_bytes, _LONG)
        self.max_depth = limits.payload_max_depth
        self._flat = 2 * limits.payload_max_depth  # shorter JSON has no more levels than are taken
        self._future = timedelta(seconds=min(limits.time_future_max, _YEARS_300))
        self._past = timedelta(seconds=min(limits.time_past_max, _YEARS_300))
        self._span = max(1, min(_SPAN_MAX, int(limits.time_future_max * 250), int(limits.time_past_max * 250)))
        self._until = self._bound(0)

    def begin(self) -> None:
        """A batch begins: LearnedShape counts its misses anew."""
        self.shape.begin()

    def bounds(self, at: int) -> TimeBounds:
        """The bounds for a record that came in `at`, milliseconds since 1970."""
        if not self._since <= at < self._until:
            self._until = self._bound(at)
        return TimeBounds(self._since, self._until, self._earliest, self._latest)

    def decode_each(
        self, records: Sequence[Record], addresses: Sequence[Address | None], arrivals: Sequence[int]
    ) -> DecodedRun:
        """Decode the records that have an address, one after another; `arrivals` as for `decode`. Never raises."""
        readings, rows = list[Reading | Rejected | None](), list[Row | None]()
        for record, address, at in zip(records, addresses, arrivals, strict=True):
            reading = self.decode(record, address, at) if address else None
            readings.append(reading)
            rows.append(None if reading is None or type(reading) is Rejected else self._row(reading))
        return DecodedRun(readings, rows)

    def decode(self, record: Record, address: Address, at: int) -> Reading | Rejected:
        """Decode a record of telemetry, which came in `at` (arrival.py), milliseconds since 1970. Never raises."""
        if not self._since <= at < self._until:
            self._until = self._bound(at)
        shape, extra = self.shape, None
        try:
            payload = record.value or b""
            text = payload.decode()
            try:
                typed = shape.typed(text)
            except ValidationError:
                typed = shape.miss(text)
            if (time := typed.time) is None:
                typed, extra, time, field = self._read_apart(text, record, address, at)
            if type(time) is not datetime or time.tzinfo is not UTC:
                time = in_utc(time)
            user, device = typed.user_id, typed.device_id
            user_id, device_id = address.user_id or user or "", address.device_id or device or ""
            sequence_id = hashed_id(payload) if typed.sequence_id is None and address.lenient else typed.sequence_id
            make = shape.make if extra is None else self._make
            reading: Reading = make(time, user_id, device_id, sequence_id, extra, typed)
        except (ValueError, TypeError, OverflowError, RecursionError):  # ValueError: also msgspec's
            return self._decode_slowly(record, address, at)
        foreign = (user is not None and user != user_id) or (device is not None and device != device_id)
        rest = reading.extra_json
        if (
            foreign
            or sequence_id is None
            or not self._earliest <= time <= self._latest
            or (not address.user_id and not is_own(user_id, device_id, record.key))
            or len(payload) > self.plain_bytes
            or ("\\" in text and "\\u0000" in text)
            or ("e" in rest and long_exponent(rest))
            or ("E" in rest and long_capital_exponent(rest))
            or (len(rest) > self._flat and rest.count("{") + rest.count("[") > self.max_depth)
        ):
            return self._decode_slowly(record, address, at)
        if extra is not None and field:
            shape.learn(field, extra)
        return reading

    def _read_apart(
        self, text: str, record: Record, address: Address, at: int
    ) -> tuple[Any, dict[str, Raw], datetime | float | None, str]:
        """A payload of a shape that is not learned: ids and columns, other fields, its time and the time's field."""
        typed, extra = self._typed(text), _raw_fields(text)
        if (time := typed.timestamp) is not None:
            field = "timestamp"
        elif (time := typed.time) is not None:
            field = "time"
        else:
            return typed, extra, _own_time(record, at) if address.lenient else None, ""
        extra.pop(field)
        return typed, extra, time, field

    def _read_with_care(self, typed: Any, extra: dict[str, Raw]) -> None:
        """Take the columns that `typed` leaves out from `extra` into `typed`. Raises ValueError when one is refused."""
        taken: set[str] = set()
        for column in self._careful:
            value = read_column(extra, column, taken)
            if isinstance(value, Fault):
                raise ValueError(value.detail)
            setattr(typed, column.name, value)
        for name in taken:
            extra.pop(name, None)

    def _bound(self, at: int) -> int:
        """Set the bounds within which every record of this span of arrival may lie; a time beyond them is judged alone.

        Returns the end of the span, milliseconds since 1970.
        """
        self._since = at - at % self._span
        until = self._since + self._span
        self._earliest, self._latest = moment_of(until) - self._past, moment_of(self._since) + self._future
        return until

    def _decode_slowly(self, record: Record, address: Address, at: int) -> Reading | Rejected:
        found = self._read(record, address, at)
        if isinstance(found, Fault):
            return Rejected(record, found.reason, found.stage, found.detail)
        return found

    def _read(self, record: Record, address: Address, at: int) -> Reading | Fault:
        payload = record.value
        if not payload:
            return Fault(Reason.EMPTY_PAYLOAD, Stage.DECODE, "payload is empty; send a JSON object")
        if len(payload) > self._limits.payload_max_bytes:
            detail = f"payload has {len(payload)} bytes; at most {self._limits.payload_max_bytes} are taken"
            return Fault(Reason.PAYLOAD_TOO_LARGE, Stage.DECODE, detail)
        fields = read_fields(payload, self.max_depth)
        if isinstance(fields, Fault):
            return fields
        known = read_known(fields, address, self._columns)
        if isinstance(known, Fault):
            return known
        time = known.time or _own_time(record, at)
        if time is None:
            detail = (
                "timestamp is missing, and neither the record's header ingest_ms nor its own timestamp is plausible"
            )
            return Fault(Reason.MISSING_FIELD, Stage.VALIDATE, detail)
        fault = None if address.user_id else own_fault(known.user_id, known.device_id, record.key)
        if fault := fault or self._time_fault(time, moment_of(at)):
            return fault
        sequence_id = hashed_id(payload) if known.sequence_id is None else known.sequence_id
        taken = known.taken.union(_IDS, (known.time_field,))
        extra = {name: raw for name, raw in fields.items() if name not in taken}
        extra_json = _encode(extra).decode()
        return jsonb_fault(extra_json, self.max_depth) or self._reading(
            time, known.user_id, known.device_id, sequence_id, extra, extra_json, *known.values
        )

    def _time_fault(self, time: datetime, arrived: datetime) -> Fault | None:
        latest, earliest = arrived + self._future, arrived - self._past
        came = f"taken of what came in at {arrived.isoformat()}"
        if time > latest:
            detail = f"{time.isoformat()} is after {latest.isoformat()}, the latest {came}; set the clock"
            return Fault(Reason.TIME_IN_FUTURE, Stage.VALIDATE, detail)
        if time < earliest:
            detail = f"{time.isoformat()} is before {earliest.isoformat()}, the earliest {came}"
            return Fault(Reason.TIME_TOO_OLD, Stage.VALIDATE, detail)
        return None


def hashed_id(payload: bytes) -> int:
    """A sequence_id for a payload without one: equal bytes give equal ids, so a redelivery is a duplicate."""
    return xxh3_64_intdigest(payload) & (2**63 - 1)


def in_utc(time: datetime | float) -> datetime:
    """The same time in UTC. Raises TypeError for None, OverflowError for what no datetime can say."""
    return time.astimezone(UTC) if isinstance(time, datetime) else from_epoch(time)


def _own_time(record: Record, at: int) -> datetime | None:
    """The time of a payload that has none: that of arrival. None where only the clock of a worker says when the record
    came in, which is another time at each redelivery.
    """
    return None if said_ms(record, at) is None else moment_of(at)
