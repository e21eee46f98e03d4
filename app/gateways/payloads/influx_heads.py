"""Prepared heads of Influx lines: in, measurement and tags; out, the first bytes of the payload of later lines.

Lines of one device and measurement have the same head, so that their tags are parsed once.
"""

import re
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from app.core.decode.influx_line import BAD_LINE, InfluxPoint, LineFault
from app.core.model.fault import printable
from app.core.model.records import Reason

PREPARED_HEADS = 16_384  # each a measurement with its tags; 1 kB by tracemalloc, so at most 16 MB
PREPARED_LENGTH = 512  # bytes; a longer head is parsed each time
TAG_SETS = 256  # maximum remembered sets of tags
SHAPES = 64  # maximum remembered sets of fields for each set of tags; by tracemalloc 11 MB in all
OWN = ("measurement", "timestamp", "user_id", "device_id")  # keys that the gateway writes or that are in the topic
SEQUENCE_ID = "sequence_id"
INT64 = range(-(1 << 63), 1 << 63)

_DIGITS = b"0123456789.+-"
_whole = re.compile(r"-?(?:0|[1-9][0-9]{0,18})").fullmatch
_to_json = msgspec.json.Encoder().encode


class InfluxNames(Struct, frozen=True):
    """The names of the tags for the user and the device of a line."""

    user: str = "user_id"
    device: str = "device_id"


class InfluxHead(Struct, gc=False):
    """The prepared measurement and tags of lines."""

    user: str | None
    device: str | None
    json: bytes  # the payload up to its first field
    names: "TakenNames"


class TakenNames:
    """The names of tags in heads, and the sets of fields that are known to have no name in common with these tags.

    Names are compared without digits, points and signs: a false clash costs the slow path, and no clash is missed.
    """

    def __init__(self, tags: Iterable[str]) -> None:
        """`tags`: the names of the tags of the heads."""
        self._taken = {name.encode().translate(None, _DIGITS) for name in (*tags, *OWN, SEQUENCE_ID)}
        self._known: set[bytes] = set()

    def clash(self, fields: bytes) -> bool:
        """Whether one of these plain fields, given without quoted texts, may have the name of a tag."""
        shape = fields.translate(None, _DIGITS)
        if shape in self._known:
            return False
        if any(field.partition(b"=")[0] in self._taken for field in shape.split(b",")):
            return True
        if len(self._known) < SHAPES and len(shape) <= PREPARED_LENGTH:
            self._known.add(shape)
        return False


_heads: dict[InfluxNames, dict[bytes, InfluxHead]] = {}
_names: dict[frozenset[str], TakenNames] = {}


def heads_of(names: InfluxNames) -> dict[bytes, InfluxHead]:
    """The heads prepared for these names, by the first bytes of a line."""
    return _heads.setdefault(names, {})


def prepare(heads: dict[bytes, InfluxHead], first: bytes, point: InfluxPoint, names: InfluxNames) -> None:
    """Keep the head of a good line for later lines, unless the head is long or its meaning depends on the fields.

    `first`: the bytes of the line up to its fields; `point`: the parsed line.
    """
    if len(first) > PREPARED_LENGTH or first[:1] in (b"", b"\t") or SEQUENCE_ID in point.tags:
        return
    tags = payload_fields(point._replace(fields={}), names)
    if isinstance(tags, dict):
        if len(heads) >= PREPARED_HEADS:
            heads.clear()
        user, device = point.tags.get(names.user), point.tags.get(names.device)
        heads[first] = InfluxHead(user, device, json_object(tags) + b",", _names_of(tags, heads))


def payload_fields(point: InfluxPoint, names: InfluxNames) -> dict[str, str] | LineFault:
    """Key -> JSON text of the content of a line without time, user and device, in order; or the fault of a refused
    line.
    """
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


def json_object(fields: dict[str, str]) -> bytes:
    """A JSON object of names and JSON texts without its last brace.

    Raises UnicodeEncodeError for a lone surrogate in a text.
    """
    return b"{" + b",".join(b"%b:%b" % (_to_json(name), value.encode()) for name, value in fields.items())


def _names_of(tags: Iterable[str], heads: dict[bytes, InfluxHead]) -> TakenNames:
    """The TakenNames of a set of tags. Too many sets clear `heads` too, because each head refers to its TakenNames."""
    key = frozenset(tags)
    if key not in _names and len(_names) >= TAG_SETS:
        _names.clear()
        heads.clear()
    return _names.get(key) or _names.setdefault(key, TakenNames(tags))
