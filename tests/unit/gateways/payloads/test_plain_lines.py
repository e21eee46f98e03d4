"""Lines as a block: only where each of them is a good record, and then the records are the same ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateways.blocks.record_block import RecordBlock
from app.gateways.payloads.plain_lines import records_of
from app.gateways.telemetry_record import Arrival, item
from app.ports import Account
from tests.unit.fuzz import payloads
from tests.unit.gateways.test_telemetry_record import ACCOUNTS, ARRIVAL, PARENT, U1
from tests.unit.records import GOOD, NOW_MS

DEEP = GOOD[:-1] + b',"x":' + b"[" * 40 + b"]" * 40 + b"}"
ODD = [
    GOOD,
    GOOD.replace(b"u1", b"u2"),
    GOOD[:-1] + b',"x":{"y":[1,{}]}}',
    GOOD[:-1] + b',"x":"a\\u0000b"}',
    GOOD[:-1] + b',"x":"\xc3\xa9"}',
    GOOD[:-1] + b',"node_id":"u1","sensor_id":"s"}',
    GOOD[:-1] + b',"node_id":null,"traceparent":null}',
    GOOD[:-1] + b',"traceparent":"' + PARENT + b'"}',
    GOOD + b" ",
    GOOD + GOOD,
    DEEP,
    b"",
    b"{}",
    b"x" * 6000,
    b'{"device_id":"d1","sequence_id":1}',
    b'{"device_id":"d1","time":1}',
    b'{"device_id":"","sequence_id":1,"time":1}',
    b'{"device_id":"a/b","sequence_id":1,"time":1}',
    b'{"device_id":"new","sequence_id":1,"time":1,"user_id":null}',
    b'{"device_id":"d1","sequence_id":1,"time":"2026-11-30T00:00:00Z"}',
    b'{"device_id":"d1","sequence_id":1,"time":"yesterday"}',
    b'{"device_id":7,"sequence_id":1,"time":1}',
    b'[{"device_id":"d1","sequence_id":1,"time":1}]',
]


def line(device: str, **more: object) -> bytes:
    return json.dumps({"device_id": device, "sequence_id": 1, "timestamp": 1795226400, **more}).encode()


@given(st.lists(st.sampled_from(ODD), min_size=1, max_size=4), st.sampled_from(ACCOUNTS), st.booleans())
def test_odd_lines_are_each_what_they_are_alone(lines: list[bytes], account: Account, traced: bool) -> None:
    arrival = Arrival(b"tcp", NOW_MS, PARENT if traced else None, max_bytes=5000)
    assert list(records_of(account, lines, arrival)) == [item(account, one, arrival) for one in lines]


@pytest.mark.fuzz
@pytest.mark.parametrize("account", ACCOUNTS)
def test_any_line_is_what_it_is_alone(account: Account) -> None:
    blocks = 0
    for payload in payloads(2000, seed=11):
        for lines in ([payload], [GOOD, payload]):
            found = records_of(account, lines, ARRIVAL)
            assert list(found) == [item(account, one, ARRIVAL) for one in lines], payload
            blocks += type(found) is RecordBlock
    assert blocks or account is not U1


def test_good_lines_are_a_block_also_of_devices_that_are_new() -> None:
    lines = [line(f"{number}-of-a-block", note={"a": {"b": 1}}) for number in range(600)]
    for account in (U1, Account("u1", None, "")):
        found = records_of(account, lines, ARRIVAL)
        assert type(found) is RecordBlock
        assert list(found) == [item(account, one, ARRIVAL) for one in lines]
    bound = records_of(Account("u1", "1-of-a-block"), lines[1:2] * 3, ARRIVAL)
    assert type(bound) is RecordBlock


def test_one_line_that_is_none_leaves_the_others_as_they_are() -> None:
    lines = [line("d1"), b"{", line("d2")]
    found = records_of(U1, lines, ARRIVAL)
    assert list(found) == [item(U1, one, ARRIVAL) for one in lines]
    assert type(found) is list
