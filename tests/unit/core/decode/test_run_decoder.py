"""Records that are decoded together give what each of them gives alone, whatever the others are."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.decode.decoder import DecodedRun, DecodeLimits, Decoder
from app.core.decode.run_decoder import FAILURES_MAX, FEW, RunDecoder
from app.core.model.arrival import arrived_ms
from app.core.model.records import Reading, Rejected
from app.core.routing.address import Address, address_of
from tests import DEFAULT
from tests.unit.core.decode.test_learned_shape import payloads
from tests.unit.fuzz import payloads as broken
from tests.unit.records import GOOD, NOW, NOW_MS, Message

LIMITS = DecodeLimits(payload_max_bytes=20_000, payload_max_depth=4)
DEEP = b'{"time":%d,"user_id":"u1","device_id":"d1","sequence_id":7,"humidity":%s}'
ODD = [
    *(None, b"", b"{}", b"\xff", GOOD[:-1], GOOD.replace(b"u1", b"u2"), GOOD.replace(b"d1", b"d\\u0000")),
    *(GOOD.replace(b"41.20", text) for text in (b"1e99999", b"1E99999", b"1e-9", b'"\\\\u0000"', b'"\xff"')),
    *(
        GOOD.replace(b"41.20", text)
        for text in ('"°C"'.encode(), b'"%s"' % (b"x" * 17_000), b"0." + b"1" * 17_000, b"\n 4")
    ),
    *(GOOD.replace(b"41.20", text) for text in (b"[[[1]]]", b"[[[[1]]]]", b'{"a":[1,[2]]}', b" " * 90 + b"[[[[1]]]]")),
    *(DEEP % (NOW_MS, text) for text in (b'{"a":{"b":{"c":%s}}}' % (b'"%s"' % (b"x" * n)) for n in (1, 90))),
    *(GOOD.replace(b'"user_id":"u1",', b""), GOOD.replace(b'"device_id":"d1",', b"")),
    *(GOOD.replace(b'"sequence_id":7,', b""), GOOD.replace(b"humidity", b"\x7fextra"), GOOD.replace(b"7,", b"7.5,")),
    *(GOOD.replace(b"humidity", b"other_0"), GOOD.replace(b"humidity", b"extra"), GOOD.replace(b"u1", b"")),
    *(GOOD.replace(b'"2026-11-21T02:00:00.123Z"', text) for text in (b"1795226400", b"1e300", b"null", b'"x"')),
    GOOD.replace(b"00.123Z", b"00+01:00"),
    *(GOOD.replace(b"2026-11-21", day) for day in (b"2026-11-23", b"2026-01-21", b"0001-01-01")),
]
HEADERS = (
    (),
    (("mqtt_topic", b"users/u1/devices/d1/telemetry"), ("kind", b"telemetry"), ("ingest_ms", b"%d" % NOW_MS)),
    (("mqtt_topic", b"users/u2/devices/d1/telemetry"),),
    (("mqtt_topic", b"iot/u1/d1/telemetry"), ("retained", b"1")),
    (("kind", b"status"),),
)
RECORDS = st.builds(
    Message,
    st.sampled_from(ODD) | payloads() | st.just(GOOD),
    st.sampled_from(HEADERS),
    st.sampled_from([b"u1/d1", b"u2/d1", b"u1", None, b"\xff"]),
    st.sampled_from([NOW_MS, NOW_MS - 40_000, NOW_MS - 90_000, NOW_MS + 86_000_000, NOW_MS - 10**10, 7]),
)


def batched(payloads: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while found := list(islice(payloads, size)):
        yield found


def together(records: Sequence[Message], seen: Sequence[Message] = (), limits: DecodeLimits = LIMITS) -> DecodedRun:
    """The records decoded as a run, by a decoder that has seen others before; those that are no telemetry left out."""
    decoder = Decoder(limits, DEFAULT)
    run = RunDecoder(decoder, DEFAULT)
    run.begin()
    for record in (Message(), *seen):
        address = address_of(record)
        if isinstance(address, Address):
            decoder.decode(record, address, NOW_MS)
    return run.decode(records, [telemetry(record) for record in records], [at(record) for record in records])


def telemetry(record: Message) -> Address | None:
    found = address_of(record)
    return found if isinstance(found, Address) and found.kind == "telemetry" else None


def at(record: Message) -> int:
    return arrived_ms(record, NOW_MS)


def alone(record: Message, limits: DecodeLimits = LIMITS) -> Reading | Rejected | None:
    address = telemetry(record)
    return address and Decoder(limits, DEFAULT).decode(record, address, at(record))


def raws(reading: Any) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in reading.extra.items()}


def same(found: Any, row: Any, expected: Reading | Rejected | None) -> None:
    """A reading has the attributes of the one expected, and its row; JSON may have another order of names."""
    if not isinstance(expected, Reading):
        assert row is None
        assert found == expected
        return
    for name in ("time", "user_id", "device_id", "sequence_id", "temperature", "battery"):
        assert repr(getattr(found, name)) == repr(getattr(expected, name)), name
    assert raws(found) == raws(expected)
    assert repr(row[:-1]) == repr(DEFAULT.row(expected)[:-1])
    assert json.loads(row[-1]) == json.loads(found.extra_json) == json.loads(expected.extra_json)
    if len(expected.extra) < 2:
        assert row[-1] == found.extra_json == expected.extra_json


@given(st.lists(RECORDS, min_size=FEW, max_size=3 * FEW), st.lists(RECORDS, max_size=3))
def test_each_is_decoded_as_if_it_were_alone(records: list[Message], seen: list[Message]) -> None:
    found = together(records, seen)
    for record, reading, row in zip(records, *found, strict=True):
        same(reading, row, alone(record))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("headers", HEADERS)
def test_one_odd_record_among_good_ones(odd: bytes | None, headers: Any) -> None:
    records = [Message(GOOD.replace(b"7,", b"%d," % n), ()) for n in range(2 * FEW)]
    records[FEW] = Message(odd, headers)
    found = together(records)
    for record, reading, row in zip(records, *found, strict=True):
        same(reading, row, alone(record))


@pytest.mark.parametrize("failures", [1, FAILURES_MAX, FAILURES_MAX + 1, 3 * FAILURES_MAX])
def test_many_payloads_of_another_shape(failures: int) -> None:
    records = [Message(GOOD if n % 2 else GOOD[:-1], ()) for n in range(2 * failures)]
    found = together(records + [Message(headers=())] * FEW)
    assert [isinstance(reading, Rejected) for reading in found.readings] == [True, False] * failures + [False] * FEW
    assert [row is None for row in found.rows] == [True, False] * failures + [False] * FEW


def test_each_arrival_has_bounds_of_its_own() -> None:
    """Of records that came in hours apart each is judged by its own time, in any order."""
    limits = DecodeLimits(time_future_max=60.0, time_past_max=60.0)
    times = [NOW + timedelta(minutes=5 * n) for n in range(2 * FEW)]
    payload = [GOOD.replace(b"2026-11-21T02:00:00.123Z", time.isoformat().encode()) for time in times]
    for shift in (0, 1, -1):
        arrived = [NOW_MS + 300_000 * (n + shift) for n in range(2 * FEW)]
        records = [Message(one, (), timestamp=ms) for one, ms in zip(payload, arrived, strict=True)]
        found = together(records[::-1], limits=limits)
        assert [isinstance(reading, Rejected) for reading in found.readings] == [bool(shift)] * (2 * FEW)


def test_ids_that_are_the_same_are_the_same_text() -> None:
    """A batch of 5,000 rows holds the ids of its devices once."""
    found = together([Message(GOOD.replace(b"7,", b"%d," % n), ()) for n in range(3 * FEW)])
    again = [row for row in found.rows[FEW:] if row is not None]
    assert len({id(row[1]) for row in again}) == len({id(row[2]) for row in again}) == 1


def test_good_payloads_are_read_together() -> None:
    found = together([Message(GOOD, headers) for headers in HEADERS[:2] for _ in range(FEW)])
    assert None not in found.rows
    assert not any(isinstance(reading, Reading) for reading in found.readings)  # each is what msgspec made of its JSON


def test_broken_payloads() -> None:
    """What tests/unit/fuzz.py makes, each among good ones and among more of its kind."""
    for start, payload in enumerate(batched(broken(4_000, seed=5), 2 * FEW)):
        records = [Message(one, HEADERS[start % 2]) for one in payload] + [Message(headers=())] * FEW
        for record, reading, row in zip(records, *together(records, limits=DecodeLimits()), strict=True):
            expected = alone(record, DecodeLimits())
            assert (row is None) is not isinstance(expected, Reading)
            if isinstance(expected, Reading):
                assert repr(row) == repr(DEFAULT.row(expected)) or len(expected.extra) > 1
                assert raws(reading) == raws(expected)
            else:
                assert reading == expected
