"""Bodies of events in every form: each item its record or its reason, in order; nothing they hold is raised."""

import asyncio
import json
import time
from collections import Counter

import pytest

from app.gateways.http.events import COMMAS, Decode, Decoded, EventDecoders
from app.gateways.http.problem import Problem
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, Rejection
from app.ports import Account
from app.protobuf.events_pb2 import Event, EventBatch
from tests.fuzzing import INPUTS, broken

ALICE, AT = Account("alice"), Arrival(b"http", 1_795_226_400_000)
GOOD = b'{"user_id":"alice","device_id":"d1","sequence_id":1,"time":1795226400,"temperature":21.5,"note":"a,b\\n[{"}'
BAD = b'{"user_id":"bob","device_id":"d1","sequence_id":1,"time":1795226400}'


def decoder(content_type: str | None, items: int = 100) -> Decode:
    found = EventDecoders(items).of(content_type)
    assert not isinstance(found, Problem)
    return found


def outcomes(found: Decoded | Problem) -> list[str]:
    assert isinstance(found, Decoded), found
    return [item.reason if isinstance(item, Rejection) else item.value.decode() for item in found.items]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b" \n[" + GOOD + b" ,\t" + BAD + b"]\r\n"),
        ("application/json; charset=utf-8", b"[" + GOOD + b"," + BAD + b"]"),
        ("Application/X-NDJSON", GOOD + b"\n" + BAD),
        ("application/jsonl", GOOD + b"\r\n\n" + BAD + b"\n\n"),
        (None, b"[" + GOOD + b"," + BAD + b"]"),
    ],
)
async def test_each_item_comes_to_its_own_end(content_type: str | None, body: bytes) -> None:
    found = await decoder(content_type)(ALICE, body, AT)
    assert outcomes(found) == [GOOD.decode(), "not_allowed"]
    assert isinstance(found, Decoded)
    assert [found.raw(0), found.raw(1)] == [GOOD, BAD]


async def test_a_single_object_is_a_batch_of_one() -> None:
    assert outcomes(await decoder(None)(ALICE, b"  " + GOOD, AT)) == ["  " + GOOD.decode()]


async def test_a_batch_of_protobuf() -> None:
    events = [
        Event(user_id="alice", device_id="d1", sequence_id=7, time_us=1_795_226_400_000_000, battery=9),
        Event(user_id="bob", device_id="d1", sequence_id=8, time_us=1_795_226_400_000_000),
    ]
    body = EventBatch(batch_id=3, events=events).SerializeToString()
    found = await decoder("application/x-protobuf")(ALICE, body, AT)
    assert isinstance(found, Decoded)
    record, rejection = found.items
    assert isinstance(record, IngestRecord)
    assert json.loads(record.value)["sequence_id"] == 7
    assert isinstance(rejection, Rejection)
    assert Event.FromString(found.raw(1)) == events[1]
    large = await decoder("application/x-protobuf", 1)(ALICE, body, AT)
    assert isinstance(large, Problem)
    assert (large.status, large.reason) == (413, "too_many_items")


async def test_of_a_large_batch_others_have_their_turn_in_between() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    found = await decoder("application/x-ndjson", 10_000)(ALICE, GOOD + b"\n" + b"\n".join([BAD] * 4999), AT)
    task.cancel()
    assert outcomes(found)[:3] == [GOOD.decode(), "not_allowed", "not_allowed"]
    assert len(outcomes(found)) == 5000
    assert turns >= 10
    assert isinstance(found, Decoded)
    assert (found.raw(0), found.raw(4999)) == (GOOD, BAD)


async def test_to_see_every_item_of_a_batch_costs_its_length() -> None:
    """As dead letters of all of them want: a batch that is parsed for each item would hold up everybody for 12 s."""
    at = 1_795_226_400_000_000
    events = [Event(user_id="bob", device_id=f"d{number}", sequence_id=1, time_us=at) for number in range(10_000)]
    body = EventBatch(events=events).SerializeToString()
    found = await decoder("application/x-protobuf", 10_000)(ALICE, body, AT)
    assert isinstance(found, Decoded)
    began = time.process_time()
    assert [found.raw(place) for place in range(10_000)] == [one.SerializeToString() for one in events]
    assert time.process_time() - began < 2


def test_a_type_that_is_not_known_is_named() -> None:
    found = EventDecoders(10).of("text/csv; charset=utf-8")
    assert isinstance(found, Problem)
    assert (found.status, "text/csv" in found.detail) == (415, True)


async def test_a_string_of_commas_is_not_parsed_to_find_out_how_many_items_there_are() -> None:
    body = b"[" + b"1," * (COMMAS * 10) + b"1,1]"
    found = await decoder(None, 10)(ALICE, body, AT)
    assert isinstance(found, Problem)
    assert found.status == 413


SEEDS = [
    b"[" + GOOD + b"," + BAD + b"]",
    GOOD + b"\n" + BAD + b"\n",
    GOOD,
    '[{"user_id":"alice","device_id":"ü\\u00fc","sequence_id":-9,"timestamp":"2026-11-21T02:00:00+01:00"}]'.encode(),
    b'[{"node_id":"alice","sensor_id":"s","value":[1,{"a":null}]},7,null,"x",[],{}]',
    EventBatch(events=[Event(user_id="alice", device_id="d", sequence_id=1, time_us=5, extra_json=b'{"a":1}')])
    .SerializeToString(),
]  # fmt: skip
TOKENS = [
    *[b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\n", b"\r", b" ", b"\x00", b"\xff", b"\xc3"],
    *[b"NaN", b"1e999", b"-0", b"\\ud800", b"\\u0000", b"null", b"true", b"[" * 2000, b'{"a":' * 500],
    *[b"user_id", b"device_id", b"node_id", b"sensor_id", b"time", b"sequence_id", b"alice", b"\x12\x00"],
]


@pytest.mark.fuzz
async def test_broken_bodies_come_to_items_or_to_a_problem() -> None:
    decoders = EventDecoders(50)
    counts: Counter[str] = Counter()
    for body in broken(SEEDS, TOKENS, INPUTS, seed=21):
        for decode in (decoders.json, decoders.ndjson, decoders.protobuf):
            found = await decode(ALICE, body, AT)
            if isinstance(found, Problem):
                counts["problem"] += 1
                assert found.detail.isprintable()
                continue
            for place, item in enumerate(found.items):
                counts["rejection" if isinstance(item, Rejection) else "record"] += 1
                assert isinstance(found.raw(place), bytes)
                if isinstance(item, Rejection):
                    assert item.error.isprintable()
                else:
                    assert item.headers[0][1].startswith((b"users/alice/", b"iot/alice/"))
                    json.loads(item.value)
    assert min(counts[name] for name in ("problem", "rejection", "record")) > INPUTS / 20, counts
