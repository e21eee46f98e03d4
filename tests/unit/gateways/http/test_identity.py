"""What is read out of credentials and certificates; nothing of it raises."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateways.http.identity import credentials
from tests.fuzzing import INPUTS, broken


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "influx", "found"),
    [
        ("Bearer abc", False, ("", "abc")),
        ("bearer   abc ", False, ("", "abc")),
        (basic("alice:secret"), False, ("alice", "secret")),
        (basic("alice:a:b"), False, ("alice", "a:b")),
        (basic("zoë:pässword"), False, ("zoë", "pässword")),
        (basic("alice:"), False, ("alice", "")),
        ("Token abc", True, ("", "abc")),
        ("Token alice:secret", True, ("alice", "secret")),  # as clients of InfluxDB 1 do
        ("Token abc", False, None),
        (basic("alice"), False, None),
        (basic(":secret"), False, None),
        ("Basic %%%", False, None),
        ("Basic /w==", False, None),  # not UTF-8
        ("Bearer", False, None),
        ("Negotiate abc", False, None),
        ("", False, None),
    ],
)
def test_credentials(header: str, influx: bool, found: tuple[str, str] | None) -> None:
    assert credentials(header, influx) == found


@given(st.text().filter(lambda user: user and ":" not in user), st.text())
def test_every_user_and_password_comes_out_as_it_went_in(user: str, password: str) -> None:
    try:
        header = basic(f"{user}:{password}")
    except UnicodeEncodeError:
        return
    assert credentials(header, False) == (user, password)


@pytest.mark.fuzz
def test_broken_headers_are_read_or_not_and_nothing_is_raised() -> None:
    seeds = [basic("alice:secret").encode(), b"Bearer abc", b"Token alice:secret"]
    tokens = [b"Basic ", b"Bearer ", b":", b"=", b" ", b"\xff", b"\t", b"Token"]
    read = 0
    for header in broken(seeds, tokens, INPUTS, seed=5):
        found = credentials(header.decode("utf-8", "surrogateescape"), True)
        if found is not None:
            read += 1
            assert found[0] or found[1]
    assert read > INPUTS / 10
