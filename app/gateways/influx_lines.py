"""InfluxDB line protocol -> records of users/<user>/devices/<device>/telemetry, and a Rejection for each bad line.

    cpu,device_id=d1,host=a usage=3.5,cores=4i 1764475200000000000
    {"measurement":"cpu","host":"a","usage":3.5,"cores":4,"sequence_id":<of the line>,"timestamp":1764475200.000000000}

One tag names the user (without it the account), one the device (without it that of an account bound to one device).
Tags are texts; fields keep their type and digits, and one with the name of a column is that column. A tag or field
`sequence_id` counts instead of the hash of the line. A line without a time has that of its arrival.

A tag with the name of a field, and any tag or field with a name that the gateway writes itself (OWN), is kept with `_1`
behind its name, as InfluxDB's queries do it. Of a field that stands twice the last counts, here as there.

Nearly every line takes the fast way: its head was seen before, and one pattern finds its fields to be JSON but for the
punctuation. What is not so, and every line with a backslash, is read by core/decode/influx_line.py.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from app.core.decode.decoder import hashed_id
from app.core.decode.influx_line import LineFault, Precision, read_line, seconds
from app.core.model.records import Kind, Reason
from app.gateways.payloads.influx_heads import (
    SEQUENCE_ID,
    InfluxHead,
    InfluxNames,
    heads_of,
    json_object,
    payload_fields,
    prepare,
)
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import KIND, USERS, Arrival, Rejection, own_places, sealed
from app.ports import Account

_KEY = rb'[^\x00-\x20",=\\\x7f]++'
_NUMBER = rb"-?(?:0|[1-9][0-9]{0,17}+)(?:i|(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]{1,2}+)?+)"
_TEXT = rb'"[^\x00-\x1f"\\\x7f]*+"'
_FIELD = rb"%b=(?:%b|%b|true|false)(?![^, ])" % (_KEY, _NUMBER, _TEXT)
# Times from the year 2001 to 2255 in each unit: seconds, and the digits behind their point.
_PLACES = {Precision.NANOSECONDS: 9, Precision.MICROSECONDS: 6, Precision.MILLISECONDS: 3, Precision.SECONDS: 0}
_PLAIN = {
    precision: re.compile(rb"(%b(?:,%b)*+)(?: ([1-8][0-9]{9})([0-9]{%d}))?" % (_FIELD, _FIELD, places)).fullmatch
    for precision, places in _PLACES.items()
}
_head = re.compile(rb"(?:[^\\ ]++|\\.?)*+", re.DOTALL).match
# A line that may hold line ends, in its quoted texts, up to its end or to a text that never ends. Every repetition is
# possessive, so that a line costs its length; and none holds a group, with which CPython 3.11 can fail (SystemError).
_long_line = re.compile(
    rb"[ \t]*+(?:#[^\n]*+|(?:[^\n\\ ]++|\\[^\n]?)*+"
    rb'(?: (?:[^\n\\=]++|\\[^\n]?|="(?:[^"\\]++|\\.)*+"|=(?!"))*+)?+)',
    re.DOTALL,
).match


SLICE = 500  # lines: 2 ms, or 20 of the worst
Result = IngestRecord | Rejection


def parse(body: bytes, precision: Precision, names: InfluxNames, account: Account, arrival: Arrival) -> list[Result]:
    """The records of a body, in order: one result for each line that is no comment and not blank. Never raises.

    A quoted text may hold line ends.
    """
    return list(chain.from_iterable(slices(body, InfluxReader(precision, names, account, arrival))))


def slices(body: bytes, reader: "InfluxReader", size: int = SLICE) -> Iterator[list[Result]]:
    """The results of `parse`, for `size` lines at a time, so that others may have a turn in between."""
    lines = body.split(b"\n")
    for start in range(0, len(lines), size):
        some = lines[start : start + size]
        found = reader.read(some)
        for number, (line, one) in enumerate(zip(some, found, strict=True)):
            if type(one) is LineFault and _is_open(line) and start + number + 1 < len(lines):
                yield _results(found[:number])
                rest = _long_lines(body[sum(map(len, lines[: start + number])) + start + number :])
                while part := list(islice(rest, size)):
                    yield _results(reader.read(part))
                return
        yield _results(found)


def _results(found: Sequence["Result | LineFault | None"]) -> list[Result]:
    # mypy does not narrow by `type() is`.
    return [Rejection(one.reason, one.error) if type(one) is LineFault else one for one in found if one is not None]  # type: ignore[misc]


class InfluxReader:
    """Reads lines that came together, of one account."""

    def __init__(self, precision: Precision, names: InfluxNames, account: Account, arrival: Arrival) -> None:
        self._precision, self._names, self._account, self._arrival = precision, names, account, arrival
        self._plain = _PLAIN.get(precision, _none)
        self._heads = heads_of(names)
        self._arrived = b"%d.%03d" % divmod(arrival.ingest_ms, 1000)

    def read(self, lines: Sequence[bytes]) -> list[Result | LineFault | None]:
        """The result of each line; None for one that is blank or a comment. A LineFault is one that may go on in the
        next line, for whoever parted the lines to judge. Never raises.
        """
        find, plain, account, own = self._heads.get, self._plain, self._account, own_places(self._account)
        user, last, ms = account.user_id, [KIND, *self._arrival.last], self._arrival.ingest_ms
        largest = self._arrival.max_bytes
        found: list[Result | LineFault | None] = []
        for line in lines:
            if line[-1:] == b"\r":
                line = line[:-1]
            first, _, rest = line.partition(b" ")
            if (head := find(first)) is None and b"\\" in first:
                first, _, rest = _parted(line)
                head = find(first)
            if (
                head is None
                or (fields := plain(rest)) is None
                or (payload := self._payload(head, line, fields)) is None
            ):
                found.append(self._read_slowly(line))
            elif head.user in (None, user) and (place := own.get(head.device or "")) and len(payload) <= largest:
                found.append(IngestRecord(Kind.TELEMETRY, place.key, payload, [place.header, *last], 0, ms))
            else:
                device = head.device or account.device_id
                owner = head.user or user
                found.append(
                    sealed(account, USERS, owner, device, payload, self._arrival) if device else self._read_slowly(line)
                )
        return found

    def _payload(self, head: InfluxHead, line: bytes, plain: "re.Match[bytes]") -> bytes | None:
        """The payload of a plain line; None when it is not that plain."""
        fields, whole, fraction = plain.groups()
        if b'"' not in fields:
            outside, json = fields, _json(fields)
        else:
            outside, json = _json_of_texts(fields)
        if head.names.clash(outside) or not (fields.isascii() or _is_text(fields)):
            return None
        time = self._arrived if whole is None else b"%b.%b" % (whole, fraction) if fraction else whole
        return b'%b%b,"sequence_id":%d,"timestamp":%b}' % (head.json, json, hashed_id(line), time)

    def _read_slowly(self, line: bytes) -> Result | LineFault | None:
        if line.lstrip(b" \t\r")[:1] in (b"", b"#"):
            return None
        try:
            point = read_line(line.decode())
        except UnicodeDecodeError as error:
            detail = f"byte {error.start} of the line (0x{line[error.start]:02x}) is not UTF-8"
            return LineFault(Reason.BAD_ENCODING.value, detail)
        if isinstance(point, LineFault):
            return point
        time = seconds(point.time, self._precision) if point.time else self._arrived.decode()
        if isinstance(time, LineFault):
            return time
        fields = payload_fields(point, self._names)
        if isinstance(fields, LineFault):
            return fields
        device = point.tags.get(self._names.device) or self._account.device_id
        if device is None:
            return LineFault(
                Reason.MISSING_FIELD.value, f"the tag {self._names.device} is missing, which names the device"
            )
        if SEQUENCE_ID not in fields:
            fields[SEQUENCE_ID] = str(hashed_id(line))
        fields["timestamp"] = time
        prepare(self._heads, _parted(line)[0], point, self._names)
        user = point.tags.get(self._names.user) or self._account.user_id
        return sealed(self._account, USERS, user, device, json_object(fields) + b"}", self._arrival)


def _parted(line: bytes) -> tuple[bytes, bytes, bytes]:
    """A line at the first blank that no backslash escapes: head, blank, rest."""
    found = _head(line)
    end = found.end() if found else 0
    return line[:end], line[end : end + 1], line[end + 1 :]


def _json(fields: bytes) -> bytes:
    """Plain fields as the inside of a JSON object. An `i` before a comma, or at the end, is that of an integer."""
    json = b'"' + fields.replace(b"=", b'":').replace(b",", b',"').replace(b'i,"', b',"')
    return json[:-1] if json[-1:] == b"i" else json


def _json_of_texts(fields: bytes) -> tuple[bytes, bytes]:
    """Fields without their quoted texts; and as `_json`, with the texts, in which nothing is replaced."""
    parts = fields.split(b'"')
    outside = parts[::2]
    parts[::2] = [part.replace(b"=", b'":').replace(b",", b',"').replace(b'i,"', b',"') for part in outside]
    json = b'"' + b'"'.join(parts)
    return b"".join(outside), json[:-1] if json[-1:] == b"i" else json


def _long_lines(body: bytes) -> Iterator[bytes]:
    """The lines of a body whose quoted texts hold line ends; each step costs what it takes off."""
    at = 0
    while at <= len(body):
        found = _long_line(body, at)
        end = found.end() if found else at
        if body[end : end + 1] not in (b"", b"\n"):  # a text that never ends: nobody looks for the end of one again
            yield from body[at:].split(b"\n")
            return
        yield body[at:end]
        at = end + 1


def _is_open(line: bytes) -> bool:
    """Whether a quoted text begins on this line that does not end on it."""
    found = _long_line(line) if b'="' in line else None
    return found is not None and found.end() < len(line)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _none(_: bytes) -> "re.Match[bytes] | None":
    """Minutes and hours have no fast way."""
    return None
