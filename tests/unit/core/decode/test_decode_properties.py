"""What is sent is what is stored, for any JSON a device may think of."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.decode.fields import MILLISECONDS_FROM, from_epoch
from app.core.model.records import Reading, Reason, Rejected
from tests import DEFAULT
from tests.unit.fuzz import strict
from tests.unit.records import NOW, NOW_MS, Message, read

COLUMNS = ("time", "timestamp", "user_id", "device_id", "sequence_id", "temperature", "battery")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)


class Number(float):
    """A float that json.dumps writes as the text it was made of."""

    def __new__(cls, text: str) -> "Number":
        made = super().__new__(cls, 0.5)
        made.text = text
        return made

    text: str

    def __repr__(self) -> str:
        return self.text


def dumps(value: Any, *, ascii_only: bool) -> str:
    """json.dumps that keeps the digits of a Number."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict):
        names = (
            f"{json.dumps(k, ensure_ascii=ascii_only)}: {dumps(v, ascii_only=ascii_only)}" for k, v in value.items()
        )
        return "{" + ",".join(names) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dumps(item, ascii_only=ascii_only) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


VALUES = st.recursive(
    st.none() | st.booleans() | TEXTS | NUMBERS.map(Number),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
EXTRAS = st.dictionaries(TEXTS.filter(lambda name: name not in COLUMNS), VALUES, max_size=6)
TIMES = st.datetimes(
    (NOW - timedelta(days=88)).replace(tzinfo=None),
    (NOW - timedelta(days=1)).replace(tzinfo=None),
    timezones=st.integers(-840, 840).map(lambda m: timezone(timedelta(minutes=m))),
)


@given(
    EXTRAS,
    TIMES,
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.integers(-(2**31), 2**31 - 1),
    st.booleans(),
)
def test_a_good_payload_is_stored_exactly(
    extra: dict[str, Any],
    time: datetime,
    sequence: int,
    temperature: float | None,
    battery: int | None,
    ascii_only: bool,
) -> None:
    known: Mapping[str, Any] = {
        "time": time.isoformat(),
        "sequence_id": sequence,
        "temperature": temperature,
        "battery": battery,
    }
    payload = dumps({**known, **extra}, ascii_only=ascii_only).encode()
    found = read(Message(payload))
    assert isinstance(found, Reading), found
    assert (found.time, found.sequence_id, found.battery) == (time, sequence, battery)
    assert found.time.utcoffset() == timedelta(0)
    assert repr(found.temperature) == repr(temperature)
    kept, sent = strict(found.extra_json), strict(payload.decode())
    assert kept == {name: value for name, value in sent.items() if name not in known}
    assert strict(dumps(extra, ascii_only=ascii_only)) == kept
    assert {name: strict(bytes(raw)) for name, raw in found.extra.items()} == kept


@given(st.dictionaries(st.sampled_from(COLUMNS) | TEXTS, VALUES | st.sampled_from(["u1", "d1", NOW_MS]), max_size=8))
@settings(max_examples=100)
def test_any_object_is_a_reading_or_a_reason(value: dict[str, Any]) -> None:
    for headers in ([], [("mqtt_topic", b"users/u1/devices/d1/telemetry")], [("mqtt_topic", b"iot/u1/d1/telemetry")]):
        found = read(Message(dumps(value, ascii_only=True).encode(), headers))
        if isinstance(found, Rejected):
            # The payload is JSON and has no NUL in it, so only a field can be wrong, or a number too large.
            assert found.reason in (
                *(Reason.MISSING_FIELD, Reason.WRONG_TYPE, Reason.OUT_OF_RANGE, Reason.BAD_TIME),
                *(Reason.TIME_IN_FUTURE, Reason.TIME_TOO_OLD, Reason.IDENTITY_MISMATCH),
            ), found.detail


@given(st.binary(max_size=60), st.binary(max_size=10))
def test_any_bytes(payload: bytes, key: bytes) -> None:
    record = Message(payload, [], key)
    found = read(record)
    assert isinstance(found, Reading) or found.record is record


@pytest.mark.parametrize(("size", "fits"), [(32, True), (33, False)])
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}"), ('["[{",', "]")])
def test_nesting(size: int, fits: bool, start: str, end: str) -> None:
    inner = start * (size - 1) + "1" + end * (size - 1)
    found = read(Message(b'{"time":%d,"sequence_id":1,"x":%s}' % (NOW_MS, inner.encode())))
    assert isinstance(found, Reading) is fits
    if isinstance(found, Rejected):
        assert found.reason is Reason.TOO_DEEP


@given(NUMBERS)
def test_numbers_are_refused_just_where_numeric_ends(text: str) -> None:
    found = read(Message(b'{"time":%d,"sequence_id":1,"x":%s}' % (NOW_MS, text.encode())))
    _, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    before = len(digits) + exponent if any(digits) else 0
    assert isinstance(found, Reading) is (before <= 131_072 and exponent >= -16_383), text


@given(st.integers(-(10**11) + 1, 10**11 - 1).filter(lambda n: n >= -62_135_596_800))
def test_below_the_threshold_a_number_is_seconds(seconds: int) -> None:
    assert from_epoch(seconds) == NOW.replace(year=1970, month=1, day=1, hour=0) + timedelta(seconds=seconds)


def test_the_threshold_is_in_neither_range_anyone_uses() -> None:
    assert from_epoch(MILLISECONDS_FROM - 1).year == 5138
    assert from_epoch(MILLISECONDS_FROM).year == 1973


def test_payloads_made_to_be_slow_are_not() -> None:
    """A quadratic step would take hours on these; the timeout of the test would show that."""
    decoder = Decoder(DecodeLimits(payload_max_bytes=2 << 20), DEFAULT)
    head = b'{"time":%d,"sequence_id":1,"x":' % NOW_MS
    million = 1 << 20
    for payload in (
        head + b'"' + b'\\"' * (million // 2),
        head + b'"' + b'\\"' * (million // 2) + b'"}',
        head + b'"' + b"\\\\u0000" * (million // 8) + b'"}',
        head + b"[" * million,
        head + b"[" + b"[]," * (million // 4) + b"[]]}",
        head + b"9" * million + b"}",
        head + b"1e" + b"9" * million + b"}",
        head + b'"' + b"\\ud800" * (million // 8) + b'"}',
        b'{"time":' + b"1" * million + b',"sequence_id":1}',
        b'{"time":%d,"sequence_id":%s}' % (NOW_MS, b"1" * million),
        b'{"time":%d,"sequence_id":1,"temperature":%s}' % (NOW_MS, b"1" * million),
    ):
        assert isinstance(read(Message(payload), NOW, decoder), Reading | Rejected)
