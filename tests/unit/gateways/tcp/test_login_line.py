"""What is a login line, and what is not; no secret is shown."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateways.tcp.login import LoginLine, read_login
from tests.fuzzing import INPUTS, broken

GOOD: list[dict[str, Any]] = [
    {"user": "alice", "password": "hush"},
    {"user": "alice", "token": "hush"},
    {"token": "hush"},
    {"user": "", "password": ""},
]


@pytest.mark.parametrize("login", GOOD)
def test_logins(login: dict[str, Any]) -> None:
    found = read_login(json.dumps(login).encode() + b"\r")
    assert found is not None
    assert (found.user, found.token, found.password) == (login.get("user"), login.get("token"), login.get("password"))
    assert "hush" not in repr(found)
    assert "hush" not in f"{[found]}"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"null",
        b'{"user":"alice"}',
        b'{"password":"p"}',
        b'{"user":"alice","token":"t","password":"p"}',
        b'{"user":"alice","password":7}',
        b'{"user":null,"password":"p"}',
        b'{"user":"alice","password":"p","x":1}',
        b'{"device_id":"d1","sequence_id":1,"timestamp":1,"token":"t"}',  # telemetry may have such a field
        b'{"user":"al\xff","password":"p"}',
        b"[" * 100_000,
        b'{"token":"' + b"t" * 10_000 + b'"}',
    ],
)
def test_other_lines(line: bytes) -> None:
    assert read_login(line) is None


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda one: one.encode("utf-8", "surrogatepass")))
def test_nothing_is_raised(line: bytes) -> None:
    read_login(line)


@pytest.mark.fuzz
def test_broken_logins_are_none_or_logins() -> None:
    seeds = [json.dumps(login).encode() for login in GOOD]
    tokens = [b'"', b"{", b"}", b":", b",", b"\\", b"\\u0000", b"\xff", b"null", b"[]", b'"token":', b'"user":"bob",']
    logins = 0
    for line in broken(seeds, tokens, INPUTS, seed=3):
        found = read_login(line)
        if found is not None:
            logins += 1
            assert isinstance(found, LoginLine)
            assert isinstance(found.token, str) or (isinstance(found.user, str) and isinstance(found.password, str))
            assert not set(json.loads(line)) - {"user", "token", "password"}
    assert INPUTS / 20 < logins < INPUTS
