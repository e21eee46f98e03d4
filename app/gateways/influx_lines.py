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

import msgspec
from msgspec import Struct

from app.core.decode.decoder import hashed_id
from app.core.decode.influx_line import BAD_LINE, InfluxPoint, LineFault, Precision, read_line, seconds
from app.core.model.fault import printable
from app.core.model.records import Reason
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, Rejection, sealed
from app.ports import Account

PREPARED_HEADS = 16_384  # each a measurement with its tags; by tracemalloc some 1 kB, so 16 MB whatever is sent
PREPARED_LENGTH = 512  # bytes; a longer head is read anew each time
OWN = ("measurement", "timestamp", "user_id", "device_id")  # keys that the gateway writes, or the topic says
SEQUENCE_ID = "sequence_id"
INT64 = range(-(1 << 63), 1 << 63)

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
_whole = re.compile(r"-?(?:0|[1-9][0-9]{0,18})").fullmatch
_to_json = msgspec.json.Encoder().encode


class InfluxNames(Struct, frozen=True):
    """The tags that say whose a line is."""

    user: str = "user_id"
    device: str = "device_id"


class _Head(Struct, gc=False):
    """The measurement and tags of lines, prepared."""

    user: str | None
    device: str | None
    json: bytes  # of the payload, up to its first field
    clashes: tuple[bytes, ...]  # a line with one of these among its fields may name a key twice


Result = IngestRecord | Rejection

_heads: dict[InfluxNames, dict[bytes, _Head]] = {}


def parse(body: bytes, precision: Precision, names: InfluxNames, account: Account, arrival: Arrival) -> list[Result]:
    """The records of a body, in order: one result for each line that is no comment and not blank. Never raises.

    A quoted text may hold line ends.
    """
    reader = InfluxReader(precision, names, account, arrival)
    found: list[Result] = []
    lines = body.split(b"\n")
    for number, line in enumerate(lines):
        result = reader.read(line)
        if type(result) is LineFault:
            if _is_open(line) and number + 1 < len(lines):
                rest = body[sum(map(len, lines[:number])) + number :]
                return found + reader.read_all(list(_long_lines(rest)))
            found.append(Rejection(result.reason, result.error))
        elif result is not None:
            found.append(result)  # type: ignore[arg-type]
    return found


class InfluxReader:
    """Reads lines that came together, of one account."""

    def __init__(self, precision: Precision, names: InfluxNames, account: Account, arrival: Arrival) -> None:
        self._precision, self._names, self._account, self._arrival = precision, names, account, arrival
        self._plain = _PLAIN.get(precision, _none)
        self._heads = _heads.setdefault(names, {})
        self._arrived = b"%d.%03d" % divmod(arrival.ingest_ms, 1000)

    def read_all(self, lines: Sequence[bytes]) -> list[Result]:
        """One result for each line that is no comment and not blank. Each ends where the caller says. Never raises."""
        found = [self.read(line) for line in lines]
        return [
            Rejection(one.reason, one.error) if isinstance(one, LineFault) else one for one in found if one is not None
        ]

    def read(self, line: bytes) -> Result | LineFault | None:
        """The result of a line; None for one that is blank or a comment."""
        if line[-1:] == b"\r":
            line = line[:-1]
        first, _, rest = line.partition(b" ") if b"\\" not in line else _parted(line)
        head = self._heads.get(first)
        if head is None or (plain := self._plain(rest)) is None:
            return self._read_slowly(line)
        account = self._account
        if (device := head.device or account.device_id) is None:
            return self._read_slowly(line)
        fields, whole, fraction = plain.groups()
        for name in head.clashes:
            if name in fields:
                return self._read_slowly(line)
        if not fields.isascii() and not _is_text(fields):
            return self._read_slowly(line)
        json = _json(fields) if b'"' not in fields else _json_of_texts(fields)
        time = self._arrived if whole is None else b"%b.%b" % (whole, fraction) if fraction else whole
        payload = b'%b%b,"sequence_id":%d,"timestamp":%b}' % (head.json, json, hashed_id(line), time)
        return sealed(account, "users", head.user or account.user_id, device, payload, self._arrival)

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
        fields = _payload_fields(point, self._names)
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
        self._prepare(_parted(line)[0], point)
        user = point.tags.get(self._names.user) or self._account.user_id
        return sealed(self._account, "users", user, device, _object(fields) + b"}", self._arrival)

    def _prepare(self, first: bytes, point: InfluxPoint) -> None:
        """Keep the head of a good line for those that follow, unless it is long or what it says depends on more."""
        if len(first) > PREPARED_LENGTH or first[:1] in (b"", b"\t") or SEQUENCE_ID in point.tags:
            return
        if len(self._heads) >= PREPARED_HEADS:
            self._heads.clear()
        tags = _payload_fields(point._replace(fields={}), self._names)
        if isinstance(tags, dict):
            clashes = (b"_id=", b"measurement=", b"timestamp=", *(name.encode() + b"=" for name in tags))
            user, device = point.tags.get(self._names.user), point.tags.get(self._names.device)
            self._heads[first] = _Head(user, device, _object(tags) + b",", clashes)


def _parted(line: bytes) -> tuple[bytes, bytes, bytes]:
    """A line at the first blank that no backslash escapes: head, blank, rest."""
    found = _head(line)
    end = found.end() if found else 0
    return line[:end], line[end : end + 1], line[end + 1 :]


def _json(fields: bytes) -> bytes:
    """Plain fields as the inside of a JSON object. An `i` before a comma, or at the end, is that of an integer."""
    json = b'"' + fields.replace(b"=", b'":').replace(b",", b',"').replace(b'i,"', b',"')
    return json[:-1] if json[-1:] == b"i" else json


def _json_of_texts(fields: bytes) -> bytes:
    """As `_json`, of fields with quoted texts, in which nothing is replaced."""
    parts = fields.split(b'"')
    parts[::2] = [part.replace(b"=", b'":').replace(b",", b',"').replace(b'i,"', b',"') for part in parts[::2]]
    json = b'"' + b'"'.join(parts)
    return json[:-1] if json[-1:] == b"i" else json


def _payload_fields(point: InfluxPoint, names: InfluxNames) -> dict[str, str] | LineFault:
    """Key -> JSON text of all that a line says but for its time and whose it is."""
    pairs = [("measurement", _to_json(point.measurement).decode())]
    for name, value in point.tags.items():
        if name not in (names.user, names.device):
            clash = name in OWN or name in point.fields
            pairs.append((f"{name}_1" if clash else name, value if name == SEQUENCE_ID else _to_json(value).decode()))
    pairs += [(f"{name}_1" if name in OWN else name, value) for name, value in point.fields.items()]
    found = dict(pairs)
    if len(found) < len(pairs):
        return LineFault(BAD_LINE, "two tags or fields would have one name, with _1 behind it; rename one of them")
    number = found.get(SEQUENCE_ID)
    if number is not None and (not _whole(number) or int(number) not in INT64):
        error = f"{SEQUENCE_ID} is {printable(number)}; send an integer of 64 bits, or leave it out"
        return LineFault(Reason.WRONG_TYPE.value, error)
    return found


def _object(fields: dict[str, str]) -> bytes:
    """A JSON object of JSON texts, but for its last brace."""
    return b"{" + b",".join(b"%b:%b" % (_to_json(name), value.encode()) for name, value in fields.items())


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
