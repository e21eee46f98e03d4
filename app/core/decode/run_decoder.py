"""Telemetry records that follow one another -> what Decoder makes of each, and their rows; decoded together.

Nearly all payloads of a run have the shape that was learned and nothing odd in them. All of those take each step
together, and so a step costs a call for the run, instead of one for each record. Every other record goes to Decoder,
alone.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from app.core.decode.decoder import DecodedRun, Decoder, hashed_id, in_utc, long_capital_exponent, long_exponent
from app.core.decode.learned_shape import Unread
from app.core.model.identity import is_own
from app.core.model.keys import CACHED_TOPICS, device_key
from app.core.model.records import Reading, Record, Rejected, Row
from app.core.routing.address import Address
from app.core.schema.codegen import rows_maker
from app.core.schema.column_types import KEY
from app.core.schema.schema import Schema

FEW = 8  # of fewer records each is decoded alone: the steps for all together take longer
FAILURES_MAX = 16  # payloads of another shape, after which the rest of the run is decoded alone
_BEYOND = datetime.max.replace(tzinfo=UTC)  # for what is no time: no bounds allow it

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines

DecodeRun = Callable[[Sequence[Record], Sequence[Address | None], Sequence[int]], DecodedRun]


class RunDecoder:
    """Decodes runs of records as a Decoder does, whose shape and limits these are."""

    def __init__(self, decoder: Decoder, schema: Schema) -> None:
        self._decoder, self._row = decoder, schema.row
        self._rows = rows_maker((*KEY, *(column.name for column in schema.columns)))
        self._flat = 2 * decoder.max_depth
        self._names: dict[bytes | None, tuple[str, str]] = {}  # key -> the ids that it is of

    def begin(self) -> None:
        """A batch begins."""
        self._decoder.begin()

    def for_run(self, count: int) -> DecodeRun:
        """What decodes a run of `count` records: together, or few of them one after another."""
        return self._decoder.decode_each if count < FEW else self.decode

    def decode(
        self, records: Sequence[Record], addresses: Sequence[Address | None], arrivals: Sequence[int]
    ) -> DecodedRun:
        """Decode the records that have an address; `arrivals` as for Decoder.decode. Never raises."""
        shape = self._decoder.shape
        if shape.typed is Unread:
            return self._decoder.decode_each(records, addresses, arrivals)
        typed = self._typed(shape.typed, records)
        self._check(typed, records, addresses, arrivals)
        plain = [one for one in typed if one is not None]
        rows = self._rows_of(plain, shape.extras)
        if len(plain) == len(typed) and None not in rows:
            return DecodedRun(typed, rows)
        return self._merged(typed, rows, records, addresses, arrivals)

    def _typed(self, decode: Callable[[Any], Any], records: Sequence[Record]) -> list[Any]:
        """The fields of each payload; None for a payload that Decoder has to look at."""
        payloads: Sequence[Any] = [record.value or b"" for record in records]
        together = b"".join(payloads)
        if b"\\" in together and b"\\u0000" in together:
            payloads = [b"" if b"\\u0000" in one else one for one in payloads]
        if len(together) > (longest := self._decoder.plain_bytes) and max(map(len, payloads)) > longest:
            payloads = [b"" if len(one) > longest else one for one in payloads]
        if not together.isascii():
            payloads = [one if one.isascii() else _text(one) for one in payloads]
        found: list[Any] = []
        left, failures = iter(payloads), 0
        while len(found) < len(payloads):
            try:
                found.extend(map(decode, left))  # up to the payload that raises
            except (ValueError, TypeError, OverflowError, RecursionError):
                found.append(None)
                failures += 1
                if failures > FAILURES_MAX:
                    found += [None] * (len(payloads) - len(found))
        return found

    def _check(
        self,
        typed: list[Any],
        records: Sequence[Record],
        addresses: Sequence[Address | None],
        arrivals: Sequence[int],
    ) -> None:
        """Put None in the place of what Decoder has to look at; complete the ids and times of all others."""
        names, bounds = self._names, self._decoder.bounds
        since = until = 0
        for index, (it, address, at) in enumerate(zip(typed, addresses, arrivals, strict=True)):
            if it is None or address is None:
                typed[index] = None
                continue
            if not since <= at < until:
                since, until, earliest, latest = bounds(at)
            time = it.time
            if type(time) is not datetime or time.tzinfo is not UTC:
                time = it.time = _time(time)
            if it.sequence_id is None and address.lenient:
                it.sequence_id = hashed_id(records[index].value or b"")
            if it.sequence_id is None or not earliest <= time <= latest:
                typed[index] = None
            elif address.user_id or address.device_id:
                if not _addressed(it, address):
                    typed[index] = None
            else:
                name = names.get(key := records[index].key)
                if name is not None and it.device_id == name[1] and it.user_id == name[0]:
                    it.user_id, it.device_id = name  # the same text again takes memory, and time at each look-up
                elif not self._is_own(it, key):
                    typed[index] = None

    def _is_own(self, it: Any, key: bytes | None) -> bool:
        """Whether the ids of a payload without a topic are plainly good, and the key says the same."""
        it.user_id, it.device_id = user_id, device_id = it.user_id or "", it.device_id or ""
        if not is_own(user_id, device_id, key):
            return False
        if key == device_key(user_id, device_id):
            if len(self._names) >= CACHED_TOPICS:
                self._names.clear()
            self._names[key] = user_id, device_id
        return True

    def _rows_of(self, plain: Sequence[Any], extras: Callable[[Sequence[Any]], list[Any]]) -> list[Row | None]:
        """The rows; None for one with JSON that jsonb may refuse."""
        fields = extras(plain)
        lines = _encode_lines(fields).decode()
        texts = lines.split("\n")
        if len(texts) == len(plain) + 1:
            texts.pop()  # behind the last end of a line
        else:  # a field has an end of a line in it
            texts = [_encode(one).decode() for one in fields]
        rows: list[Any] = self._rows(plain, texts)
        braces = lines.count("{") + lines.count("[") - len(plain)
        if braces >= self._decoder.max_depth or long_exponent(lines) or long_capital_exponent(lines):
            for index, text in enumerate(texts):
                if self._is_odd(text):
                    rows[index] = None
        return rows

    def _is_odd(self, text: str) -> bool:
        if len(text) > self._flat and text.count("{") + text.count("[") > self._decoder.max_depth:
            return True
        return bool(long_exponent(text) or long_capital_exponent(text))

    def _merged(
        self,
        typed: Sequence[Any],
        plain_rows: Sequence[Row | None],
        records: Sequence[Record],
        addresses: Sequence[Address | None],
        arrivals: Sequence[int],
    ) -> DecodedRun:
        """All that is decoded together, and Decoder's answer for each record that is not."""
        readings, rows, plain = list[Reading | Rejected | None](), list[Row | None](), iter(plain_rows)
        for it, record, address, at in zip(typed, records, addresses, arrivals, strict=True):
            row = next(plain) if it is not None else None
            reading = it
            if row is None:
                reading = address and self._decoder.decode(record, address, at)
                row = self._row_of(reading)
            readings.append(reading)
            rows.append(row)
        return DecodedRun(readings, rows)

    def _row_of(self, reading: Reading | Rejected | None) -> Row | None:
        return None if reading is None or type(reading) is Rejected else self._row(reading)


def _text(payload: bytes) -> str | bytes:
    """The payload as text; empty, which is no JSON, where it is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return b""


def _time(time: datetime | float | None) -> datetime:
    """The same time in UTC; one that no bounds allow for what is no time."""
    try:
        return _BEYOND if time is None else in_utc(time)
    except (ValueError, OverflowError):
        return _BEYOND


def _addressed(it: Any, address: Address) -> bool:
    """Whether a payload agrees with its topic, which names the device; its ids are then those of the topic."""
    user, device = it.user_id, it.device_id
    if not address.user_id or not address.device_id:
        return False
    if (user is not None and user != address.user_id) or (device is not None and device != address.device_id):
        return False
    it.user_id, it.device_id = address.user_id, address.device_id
    return True
