"""The JSON object of a record: each field once, exact numbers, and readable by the gateways of iot-stream."""

import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.records import Kind, Reading
from app.core.routing.address import Address
from app.core.schema.column_types import Fields
from app.core.schema.schema import Schema, schema_of
from app.sinks.feed.items import item_maker
from app.sinks.record import SinkRecord
from tests import DEFAULT
from tests.receivers.readings import pushed
from tests.unit.records import NOW_MS, Message
from tests.unit.sinks.pushing.sent import record

item = item_maker(DEFAULT)


def pairs(text: bytes) -> list[tuple[str, Any]]:
    """All fields in order, repeated names included."""
    found: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=lambda seen: seen, parse_float=str)
    return found


def test_a_reading_has_its_ids_its_columns_and_every_other_field_as_it_was_sent() -> None:
    made = item(pushed(7, "truck-1", user="alice", temperature=21.5, battery=80, fuel=Raw(b"41.20"), door="open"))
    assert made == (
        b'{"user_id":"alice","device_id":"truck-1","sequence_id":7,"timestamp":"2026-11-30T10:00:07Z",'
        b'"temperature":21.5,"battery":80,"fuel":41.20,"door":"open"}'
    )


def test_a_column_that_a_reading_lacks_is_left_out() -> None:
    made = item(pushed(0, temperature=None, battery=0))
    assert made.endswith(b'"timestamp":"2026-11-30T10:00:00Z","battery":0}')


def test_a_reading_of_a_node_says_so() -> None:
    made = item(pushed(1, "press", user="plant", node=True, temperature=None, battery=None, value=Raw(b"4.250")))
    assert made == (
        b'{"node_id":"plant","sensor_id":"press","sequence_id":1,"timestamp":"2026-11-30T10:00:01Z","value":4.250}'
    )


def test_what_the_object_says_itself_is_said_once() -> None:
    node = item(
        pushed(1, "press", user="plant", node=True, node_id="plant", sensor_id="press", timestamp=None, value=1)
    )
    assert [name for name, _ in pairs(node)].count("node_id") == 1
    assert [name for name, _ in pairs(node)][-1] == "value"
    user = item(pushed(1, timestamp=None, node_id="of the user"))
    assert pairs(user)[-1] == ("node_id", "of the user")
    assert len(dict(pairs(user))) == len(pairs(user))


class Own(Struct):
    """Columns whose names differ from their fields."""

    degrees: Annotated[float | None, Fields("temp", "t")] = None
    label: str | None = None


def test_a_column_has_the_name_of_the_field_that_it_comes_from() -> None:
    schema = schema_of(Own)
    reading = schema.reading(pushed(0).reading.time, "u", "d", 1, {}, "{}", 4.5, "ä\n")
    made = item_maker(schema)(msgspec.structs.replace(pushed(0), reading=reading))
    assert pairs(made)[-2:] == [("temp", "4.5"), ("label", "ä\n")]


@pytest.mark.parametrize(
    ("key", "payload", "said"),
    [
        ("iot/plant", b'{"up": true}', {"kind": "status", "node_id": "plant", "payload": {"up": True}}),
        ("iot/plant", b"online", {"kind": "status", "node_id": "plant", "payload": "online"}),
        ("u/d", b"\xff\x00", {"kind": "status", "user_id": "u", "device_id": "d", "payload_base64": "/wA="}),
        ("u/d", b"NaN", {"kind": "status", "user_id": "u", "device_id": "d", "payload": "NaN"}),
        ("u/d", b"[" * 5000, {"kind": "status", "user_id": "u", "device_id": "d", "payload": "[" * 5000}),
    ],
)
def test_what_is_no_reading_says_its_kind(key: str, payload: bytes, said: dict[str, Any]) -> None:
    assert json.loads(item(record(3, key, payload=payload, kind=Kind.STATUS))) == {"ingest_ms": 0, **said}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
PAYLOADS = st.dictionaries(
    st.sampled_from(["temperature", "battery", "timestamp", "time", "node_id", "user_id", "value", "x", "a b"])
    | st.text(max_size=5),
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)),
    max_size=6,
)


@given(payload=PAYLOADS, node=st.booleans())
def test_what_a_worker_reads_it_reads_again_from_the_object(payload: dict[str, Any], node: bool) -> None:
    text = json.dumps({**payload, "sequence_id": 5, "time": NOW_MS / 1000}).encode()
    lenient = Address(Kind.TELEMETRY, "u", "d", "iot/u/d/telemetry" if node else "", node, "iot/u" if node else "")
    read = _read(text, lenient, DEFAULT)
    if not isinstance(read, Reading):
        return
    key = "iot/u/d" if node else "u/d"
    made = item(SinkRecord("t", 0, 1, NOW_MS, Kind.TELEMETRY, "u", "d", key, read, text, [], None))
    assert len(dict(pairs(made))) == len(pairs(made)), "each field stands once"
    again = _read(made, lenient, DEFAULT)
    assert isinstance(again, Reading), again
    assert DEFAULT.row(again)[:-1] == DEFAULT.row(read)[:-1]
    ids = {"node_id", "sensor_id"} if node else set[str]()
    hidden = ids | {"timestamp"}
    assert _without(again, hidden) == _without(read, hidden)


def _read(text: bytes, address: Address, schema: Schema) -> object:
    return Decoder(DecodeLimits(), schema).decode(Message(text, (), b"u/d"), address, NOW_MS)


def _without(reading: Reading, names: set[str]) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in reading.extra.items() if name not in names}
