"""Payloads made by breaking good payloads, and what must hold for whatever decoding makes of them."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from msgspec.structs import replace

from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.arrival import arrived_ms
from app.core.model.records import Reading, Reason
from app.core.routing.address import Address, address_of
from tests import DEFAULT
from tests.unit.records import GOOD, NOW, NOW_MS, Message, read

SEEDS = [
    GOOD,
    b'{"timestamp":1795226400123,"sequence_id":9223372036854775807,"engine":{"oil":{"temp":90.5}},"list":[1,2,[3]]}',
    b'{"time":"2026-11-21T02:00:00+02:00","timestamp":null,"sequence_id":1,"name":"\\u00e9\\ud83d\\ude00\\n\\\\u0000"}',
    '{ "time" : 1795226400.5 , "sequence_id":-1, "temperature":null, "battery":-5, "é":"日本 😀", "e":1e10 }'.encode(),
    b'{"user_id":"u1","device_id":"d1","sequence_id":3,"time":"2026-11-21T02:00:00.999999999Z","a":0.10,"b":-0.0}',
]
TOKENS = [
    *b'{ } [ ] , : " \\ - + . e E 0 1 9 / * NaN Infinity -Infinity nan true false null'.split(),
    *[b"\\u0000", b"\\\\u0000", b"\\ud800", b"\\udc00", b"\\ud83d\\ude00", b"\\x", b"\\u12", b"\0", b"\n", b"\x7f"],
    *[b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf4\x90\x80\x80", b"\xe2\x80\xa8", b"\xc3\xa9"],
    *[b"1e400", b"1e131071", b"1e131072", b"1E-16383", b"1e-16384", b"1e999999999999", b"-1e-999999", b"0e99999"],
    *[
        b"1e00000000001",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"2147483648",
        b"1" * 5000,
        b"0." + b"1" * 17000,
    ],
    *[
        b'"device_id":"d2",',
        b'"user_id":5,',
        b'"time":null,',
        b'"timestamp":"2026-11-21T02:00:00",',
        b'"sequence_id":1.0,',
    ],
    *[
        b'"battery":true,',
        b'"temperature":1e400,',
        b'"x":1,"x":"\xff",',
        b'"":{},',
        b'"a":' + b"[" * 40 + b"]" * 40 + b",",
    ],
]
COLONS = re.compile(b":").finditer
COLUMNS = {"user_id", "device_id", "sequence_id", "temperature", "battery"}


def payloads(count: int, seed: int) -> Iterator[bytes]:
    """`count` payloads, the same for the same seed; most have one or two mutations, some are noise."""
    chance = random.Random(seed)
    for _ in range(count):
        payload = chance.choice(SEEDS)
        for _ in range(chance.choice((1, 1, 1, 2, 2, 4))):
            payload = chance.choice(MUTATIONS)(chance, payload)
        yield payload


def _flip(chance: random.Random, payload: bytes) -> bytes:
    if not payload:
        return payload
    at = chance.randrange(len(payload))
    return payload[:at] + bytes([payload[at] ^ (1 << chance.choice((0, 1, 2, 3, 4, 5, 6, 6, 7)))]) + payload[at + 1 :]


def _cut(chance: random.Random, payload: bytes) -> bytes:
    return payload[: chance.randrange(len(payload) + 1)]


def _remove(chance: random.Random, payload: bytes) -> bytes:
    at = chance.randrange(len(payload) + 1)
    return payload[:at] + payload[at + chance.randrange(1, 8) :]


def _insert(chance: random.Random, payload: bytes) -> bytes:
    at = chance.randrange(len(payload) + 1)
    return payload[:at] + chance.choice(TOKENS) + payload[at:]


def _value(chance: random.Random, payload: bytes) -> bytes:
    """Put a token where a value was: what a syntax check alone would often take."""
    starts = [colon.start() for colon in COLONS(payload)]
    if not starts:
        return payload
    at = chance.choice(starts) + 1
    ends = [end for end in (payload.find(b",", at), payload.find(b"}", at)) if end >= 0]
    return payload[:at] + chance.choice(TOKENS) + payload[min(ends, default=at) :]


def _name(chance: random.Random, payload: bytes) -> bytes:
    """The payload with one more field at the front."""
    token = chance.choice(TOKENS)
    field = b'"%s":1,' % token if chance.random() < 0.5 else b'"f%d":"%s",' % (chance.randrange(3), token)
    return payload.replace(b"{", b"{" + field, 1)


def _swap(chance: random.Random, payload: bytes) -> bytes:
    names = [b"time", b"timestamp", b"user_id", b"device_id", b"sequence_id", b"temperature", b"battery", b"x"]
    return payload.replace(chance.choice(names), chance.choice(names))


def _nest(chance: random.Random, payload: bytes) -> bytes:
    depth = chance.choice((3, 30, 31, 32, 33, 2000))
    inner = chance.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
    return payload.replace(b"{", b'{"deep":' + inner + b",", 1)


def _noise(chance: random.Random, payload: bytes) -> bytes:
    return chance.randbytes(chance.randrange(40))


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    *[_flip, _cut, _remove, _insert, _insert, _value, _value, _name, _name, _swap, _nest, _noise]
]


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def strict(text: str | bytes) -> Any:
    """Parse JSON with every number exact; ValueError for NaN, Infinity and what Python's parser refuses."""
    return json.loads(text, parse_float=exact, parse_int=exact, parse_constant=_refuse_constant)


def exact(number: str) -> Decimal | str:
    """The number, or its text when its exponent is beyond even Decimal's."""
    try:
        return Decimal(number)
    except InvalidOperation:
        return number


HEADERS = [
    [("mqtt_topic", b"users/u1/devices/d1/telemetry")],
    [("mqtt_topic", b"iot/u1/d1/telemetry"), ("ingest_ms", b"1795226400000")],
    [],
]


def run(count: int, seed: int) -> Counter[str]:
    """Decode `count` payloads and check what came of each; returns how many came to what."""
    outcomes: Counter[str] = Counter()
    decoder = Decoder(DecodeLimits(), DEFAULT)
    for number, payload in enumerate(payloads(count, seed)):
        record = Message(payload, HEADERS[number % 3], None)
        found = read(record, NOW, decoder)
        if isinstance(found, Reading):
            outcomes["reading"] += 1
            check_reading(payload, found)
            check_both_ways_agree(decoder, record, found)
            continue
        outcomes[found.reason] += 1
        assert found.detail.isprintable(), found.detail
        assert len(found.detail) < 400
        if found.reason is Reason.BAD_JSON:
            assert not is_json(payload), payload
    return outcomes


def check_both_ways_agree(decoder: Decoder, record: Message, found: Reading) -> None:
    """The careful way alone makes the same reading."""
    address = address_of(record)
    assert isinstance(address, Address)
    slow = decoder._decode_slowly(record, address, arrived_ms(record, NOW_MS))
    assert isinstance(slow, Reading), slow
    plain = [{n: bytes(r) for n, r in reading.extra.items()} for reading in (found, slow)]
    assert plain[0] == plain[1]
    assert replace(slow, extra={}) == replace(found, extra={})


def is_json(payload: bytes) -> bool:
    try:
        strict(payload.decode())
    except (ValueError, RecursionError):  # RecursionError: cut off so deep that Python's parser cannot decide
        return False
    return True


def check_reading(payload: bytes, found: Reading) -> None:
    """What was stored is what was sent, and PostgreSQL can take it."""
    sent = strict(payload.decode())
    text = DEFAULT.row(found)[6]
    text.encode()  # no surrogate
    kept = strict(text)
    assert "\0" not in json.dumps(kept, ensure_ascii=False, default=str), payload
    time_field = next((name for name in ("timestamp", "time") if sent.get(name) is not None), None)
    expected = {name: value for name, value in sent.items() if name not in COLUMNS and name != time_field}
    assert kept == expected, payload
    if sent.get("sequence_id") is not None:
        assert found.sequence_id == sent["sequence_id"]
    assert found.battery == sent.get("battery")
    assert found.temperature == (None if sent.get("temperature") is None else float(sent["temperature"]))
    assert (found.user_id, found.device_id) == ("u1", "d1") or "user_id" in sent
