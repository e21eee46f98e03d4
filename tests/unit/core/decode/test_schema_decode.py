"""Payloads of a schema with every type: what is stored is what was sent, or the reason is right. Both ways agree."""

import json
from decimal import Decimal
from math import isinf
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.records import Reading, Reason, Rejected
from app.core.schema.column_types import Column, Fields, Int16, Int32
from app.core.schema.schema import schema_of
from tests.unit.fuzz import check_both_ways_agree, strict
from tests.unit.records import NOW, NOW_MS, Message, read


class Everything(Struct):
    """Required and not, with one name and with more."""

    gross: Annotated[float, Fields("weight", "weight_kg", "w")]
    price: Annotated[Decimal | None, Fields("p", "price")] = None
    exact: Decimal | None = None
    count: int | None = None
    half: Int32 | None = None
    small: Annotated[Int16 | None, Fields("s", "small")] = None
    on: bool | None = None
    hub: str | None = None
    place: Annotated[str | None, Fields("hub_name", "Ort\N{RIGHTWARDS ARROW}")] = None


SCHEMA = schema_of(Everything)
DECODER = Decoder(DecodeLimits(), SCHEMA)
JSON_FIELDS = [field for column in SCHEMA.columns for field in column.fields]
TOPICS = [b"users/u1/devices/d1/telemetry", b"iot/u1/d1/telemetry"]

DIGITS = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,5})?", fullmatch=True)
EDGES = st.sampled_from(
    [str(sign * (1 << bits) + step) for bits in (15, 31, 63) for sign in (1, -1) for step in (-1, 0, 1)]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
ODD = ["null", "true", "false", "[]", "{}", "1e400", "-0.0"]
ODD += ['""', '"NaN"', '"1e5"', '"-0"', '" 1"', '"1_0"', '"\u0663"', '"0x1"', '"+1"', '"1."', '".5"']
VALUES = st.sampled_from(ODD) | DIGITS | DIGITS.map(lambda text: f'"{text}"') | EDGES | TEXTS.map(json.dumps)


def oracle(column: Column, sent: dict[str, str]) -> Any | Reason:
    """What is to come of it, worked out another way: a value or a reason."""
    text = next((sent[field] for field in column.fields if sent.get(field, "null") != "null"), None)
    if text is None:
        return Reason.MISSING_FIELD if column.required else None
    value = strict(text)
    kind, number = column.type.python, isinstance(value, Decimal)
    if kind is Decimal:
        return money(value)
    whole = isinstance(value, Decimal) and (value.adjusted() > 30 or value == value.to_integral_value())
    if kind in (float, int) and not (number and (kind is float or whole)):
        return Reason.WRONG_TYPE
    if kind is float:
        return Reason.OUT_OF_RANGE if isinf(float(text)) else float(text)
    if kind is int:
        limit = 1 << column.type.bits - 1
        return int(value) if value.adjusted() <= 30 and -limit <= value < limit else Reason.OUT_OF_RANGE
    return value if isinstance(value, kind) else Reason.WRONG_TYPE


def money(value: Any) -> Decimal | Reason:
    """Of a number, or of a string with nothing but one in it."""
    if isinstance(value, str):
        bare = value.lower().lstrip("-")
        if not bare[:1].isdigit() or not bare[-1:].isdigit() or not set(bare) <= set("0123456789.e+-"):
            return Reason.WRONG_TYPE
        value = Decimal(value)
    if not isinstance(value, Decimal):
        return Reason.WRONG_TYPE
    return value


# What the column of a field takes, so that many readings are taken.
GOOD = {float: DIGITS, int: st.sampled_from(["0", "-32768", "32767"]), Decimal: DIGITS | DIGITS.map(json.dumps),
        bool: st.sampled_from(["true", "false"]), str: TEXTS.map(json.dumps)}  # fmt: skip
GOOD_FIELDS = {
    field: st.just("null") | GOOD[column.type.python]
    for column in SCHEMA.columns
    for field in column.fields
    if field != "w"
}
RIGHT = st.fixed_dictionaries({"w": DIGITS}, optional=GOOD_FIELDS | {"other": VALUES, "time": st.just("null")})
ANY = st.dictionaries(st.sampled_from([*JSON_FIELDS, "other", "x"]), VALUES, max_size=2)


@given(RIGHT, ANY, st.sampled_from(TOPICS))
def test_any_values(right: dict[str, str], any_values: dict[str, str], topic: bytes) -> None:
    sent = right | any_values
    body = "".join(f",{json.dumps(name)}:{text}" for name, text in sent.items())
    record = Message(f'{{"timestamp":{NOW_MS},"sequence_id":1{body}}}'.encode(), [("mqtt_topic", topic)], None)
    found = read(record, NOW, DECODER)
    wanted = {column.name: oracle(column, sent) for column in SCHEMA.columns}
    wrong = {value for value in wanted.values() if isinstance(value, Reason)}
    if isinstance(found, Rejected):
        large = found.reason is Reason.OUT_OF_RANGE  # of a Decimal or of extra_data: test_decode_properties has more
        assert found.reason in wrong or (large and any("e" in text.lower() for text in sent.values())), found
        return
    assert not wrong
    for name, value in wanted.items():
        got = getattr(found, name)
        assert (type(got), repr(got)) == (type(value), repr(value))
    check_both_ways_agree(DECODER, record, found)
    looked_at = {field for column in SCHEMA.columns for field in used(column, sent)}
    assert strict(found.extra_json) == {name: strict(text) for name, text in sent.items() if name not in looked_at}


def used(column: Column, sent: dict[str, str]) -> list[str]:
    """The fields up to the first that counts."""
    there = [sent.get(field, "null") != "null" for field in column.fields]
    return list(column.fields[: there.index(True) + 1 if True in there else None])


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        ("", Reason.MISSING_FIELD, "weight or weight_kg or w is missing; send a number"),
        ('"weight":null,"w":null', Reason.MISSING_FIELD, "weight or weight_kg or w is missing"),
        ('"weight":"2.4"', Reason.WRONG_TYPE, 'weight is "2.4"; send a number'),
        ('"weight":null,"w":true', Reason.WRONG_TYPE, "w is true; send a number"),
        ('"w":1,"s":32768', Reason.OUT_OF_RANGE, "s is 32768, beyond -32768 to 32767; send a 16-bit integer"),
        ('"w":1,"half":1.5', Reason.WRONG_TYPE, "half is 1.5; send a 32-bit integer"),
        ('"w":1,"on":1', Reason.WRONG_TYPE, "on is 1; send true or false"),
        ('"w":1,"hub":5', Reason.WRONG_TYPE, "hub is 5; send a string"),
        ('"w":1,"p":"12,5"', Reason.WRONG_TYPE, 'p is "12,5"; send a number, or a string that is one'),
        (
            '"w":1,"p":1e1001',
            Reason.OUT_OF_RANGE,
            "p is 1e1001; at most 1000 characters, and as large an exp",
        ),
        ('"w":1,"p":"' + "1" * 1001 + '"', Reason.OUT_OF_RANGE, "at most 1000 characters"),
        ('"w":1,"hub":"a\\u0000"', Reason.NUL_CHARACTER, "contains \\u0000"),
        ('"w":1,"hub_name":"a\\ud800"', Reason.LONE_SURROGATE, "no Unicode text can hold it"),
    ],
)
@pytest.mark.parametrize("topic", TOPICS)
def test_a_refusal_names_the_field_as_sent(body: str, reason: Reason, words: str, topic: bytes) -> None:
    payload = f'{{"time":{NOW_MS},"sequence_id":1{"," if body else ""}{body}}}'.encode()
    found = read(Message(payload, [("mqtt_topic", topic)]), NOW, DECODER)
    assert isinstance(found, Rejected)
    assert found.reason is reason
    assert words in found.detail


def test_digits_are_kept() -> None:
    payload = f'{{"time":{NOW_MS},"sequence_id":1,"w":1,"p":"70000.100000000000000000010","exact":0.10}}'.encode()
    found = read(Message(payload), NOW, DECODER)
    assert isinstance(found, Reading), found
    assert (str(found.price), str(found.exact)) == ("70000.100000000000000000010", "0.10")
