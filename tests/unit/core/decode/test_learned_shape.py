"""A decoder that has learned what payloads look like reads each of them as one that has seen none before."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from app.core.decode import decoder as decode
from app.core.decode import learned_shape
from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.records import Reading, Rejected
from tests import DEFAULT
from tests.unit.records import GOOD, NOW, Message, read

# Names of fields: known, to be learned, and never learned; values of the right type and not.
KNOWN = ("time", "timestamp", "user_id", "device_id", "sequence_id", "temperature", "battery")
OTHERS = ("humidity", "pressure", "a b", "other_0", "x.y-z", 'q"', "\\", "ü", "", "\u007f", "it", "extra")
NAMES = st.sampled_from(KNOWN + OTHERS)
FITTING = ('"2026-11-21T02:00:00Z"', '"2026-11-20T02:00:00+01:00"', "1795226400", "1795226400.5", '"u1"', '"d1"', "7")
STRANGE = ('"u2"', "-3.25", "1e3", "1e9999", "null", "true", '"\\u0000"', "{}", '{"b": [1, {"c": null}]}', "[]")
VALUES = st.sampled_from(FITTING + STRANGE)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
OWN = ['"time":"2026-11-21T02:00:00Z"', '"user_id":"u1"', '"device_id":"d1"', '"sequence_id":7', '"temperature":21.5']


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """JSON of fields in any order, the same name twice now and then, most of them good readings."""
    own = draw(st.lists(st.sampled_from(OWN), max_size=2)) if draw(st.booleans()) else OWN
    rest = [f"{escaped(name, draw(st.booleans()))}:{value}" for name, value in draw(FIELDS)]
    fields = draw(st.permutations([*own, *rest]))
    return f"{{{','.join(fields)}}}".encode()


def escaped(name: str, every: bool) -> str:
    """A name in JSON, with or without an escape that it does not need."""
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"' if every else json.dumps(name)


def reported(found: Reading | Rejected) -> Any:
    """All of a reading but for the order of its fields, or why it is none."""
    if isinstance(found, Rejected):
        return found.reason, found.stage, found.detail
    fields = structs.asdict(found)
    extra = {name: bytes(raw) for name, raw in fields.pop("extra").items()}
    return fields | {"extra": extra, "extra_json": json.loads(fields["extra_json"])}


@given(st.lists(payloads(), min_size=2, max_size=6))
def test_what_was_read_before_changes_nothing(several: list[bytes]) -> None:
    learned = Decoder(DecodeLimits(), DEFAULT)
    for payload in several + several:
        headers = Message.__struct_defaults__[1] if len(payload) % 2 else ()
        record = Message(payload, headers=headers)
        assert reported(read(record, decoder=learned)) == reported(
            read(record, decoder=Decoder(DecodeLimits(), DEFAULT))
        )


def test_it_is_read_at_one_go(monkeypatch: Any) -> None:
    decoder = Decoder(DecodeLimits(), DEFAULT)
    first = read(Message(), decoder=decoder)
    monkeypatch.setattr(decode, "_raw_fields", None)  # the second look
    monkeypatch.setattr(Decoder, "_decode_slowly", None)
    assert reported(read(Message(), decoder=decoder)) == reported(first)
    assert reported(read(Message(GOOD.replace(b',"humidity":41.20', b"")), decoder=decoder))["extra"] == {}


def test_ever_new_names_are_not_learned_for_ever() -> None:
    decoder = Decoder(DecodeLimits(), DEFAULT)
    for number in range(3 * learned_shape.NAMES_MAX):
        payload = GOOD.replace(b"humidity", b"field_%d" % number)
        decoder.begin()
        found = read(Message(payload), NOW, decoder)
        assert isinstance(found, Reading)
        assert list(found.extra) == [f"field_{number}"]
    assert len(decoder.shape._named) == learned_shape.NAMES_MAX
    assert decoder.shape.misses <= 1  # of the last batch
    for _ in range(2 * learned_shape.MISSES_MAX):
        read(Message(payload), NOW, decoder)
    assert decoder.shape.misses == learned_shape.MISSES_MAX


def test_timestamp_wins_also_where_both_are_known() -> None:
    decoder = Decoder(DecodeLimits(), DEFAULT)
    null = GOOD.replace(b'"time"', b'"timestamp":null,"time"')
    both = GOOD.replace(b'"time"', b'"timestamp":"2026-11-20T00:00:00Z","time"')
    for payload in (GOOD, null, both, null, both):
        assert reported(read(Message(payload), decoder=decoder)) == reported(
            read(Message(payload), decoder=Decoder(DecodeLimits(), DEFAULT))
        )


@pytest.mark.parametrize("number", [b"90.0", b"9e1", b"90.00", b"90.5", b"2147483648.0"])
def test_an_integer_as_a_float_is_read_alike_by_whoever_has_learned(number: bytes) -> None:
    decoder = Decoder(DecodeLimits(), DEFAULT)
    read(Message(), decoder=decoder)
    record = Message(GOOD.replace(b'"battery":80', b'"battery":' + number))
    assert reported(read(record, decoder=decoder)) == reported(read(record, decoder=Decoder(DecodeLimits(), DEFAULT)))
