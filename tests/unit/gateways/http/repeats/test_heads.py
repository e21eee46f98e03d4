"""Heads that are known: what they said, and where a request begins, whatever comes in whatever pieces."""

from typing import Any

import pytest
from aiohttp import HttpVersion10
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given
from hypothesis import strategies as st

from app.gateways.http.repeats.heads import FRUITLESS, OVERHEAD, REMEMBERED_BYTES, KnownHeads, body_length
from app.gateways.telemetry_record import telemetry

HEAD = b"POST /v1/users/alice/devices/d1/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n"
GIVEN = {"Authorization": "Bearer t", "Content-Length": "4"}


def whole(length: int, more: bytes = b"") -> bytes:
    """A head."""
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % length


def learn(heads: KnownHeads, head: bytes, device: str = "d1", **headers: str) -> None:
    """As a request that comes alone, and is looked at."""
    heads.passed(head, alone=True)
    heads.learn(make_mocked_request("POST", "/", {**GIVEN, **headers}), telemetry, "alice", device)


def test_a_request_with_the_same_head_is_found() -> None:
    heads = KnownHeads()
    assert heads.find(whole(4) + b"body") is None
    learn(heads, whole(4))
    assert heads.find(whole(4) + b"body") is None, "the body of the first one is still to come"
    heads.passed(b"body", alone=False)
    found = heads.find(whole(4) + b"more")
    assert found is not None
    head, body = found
    assert (head.authorization, head.length, head.owner, head.device, body) == ("Bearer t", 4, "alice", "d1", b"more")
    for other in (whole(4) + b"bo", whole(4) + b"body2", whole(5) + b"body2", whole(4, b"X: y\r\n") + b"body", b""):
        assert heads.find(other) is None
        assert not heads.held


@pytest.mark.parametrize("name", [b"X-Request-ID", b"x-request-id", b"X-Amzn-Trace-Id", b"CF-Ray", b"X-Correlation-ID"])
def test_what_proxies_put_in_anew_each_time_may_change(name: bytes) -> None:
    heads = KnownHeads()
    learn(heads, whole(4, name + b": 1\r\n"))
    heads.passed(b"body", alone=False)
    assert heads.find(whole(4, name + b": Root=2;x\r\n") + b"body")
    for value in (b"a\tb", b"a\r\n b", b"a\nX: y", b"\x80", b"x" * 129, b"a\r\nX-Request-ID: b"):
        assert heads.find(whole(4, name + b": " + value + b"\r\n") + b"body") is None
    assert heads.find(whole(4, b"Y-Request-ID: 1\r\n") + b"body") is None
    assert heads.find(whole(4) + b"body") is None


def test_a_head_alone_is_held_back_once() -> None:
    heads = KnownHeads()
    learn(heads, whole(4))
    heads.passed(b"body", alone=False)
    assert heads.find(whole(4)) is None
    assert heads.held == whole(4)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "gzip"},
        {"Expect": "100-continue"},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"Content-Length": "0"},
    ],
)
def test_what_says_more_than_whose_it_is_is_not_remembered(headers: dict[str, str]) -> None:
    heads = KnownHeads()
    learn(heads, whole(4), **headers)
    assert not heads.known


def test_an_older_version_is_not_remembered() -> None:
    heads = KnownHeads()
    heads.passed(whole(4), alone=True)
    heads.learn(make_mocked_request("POST", "/", GIVEN, version=HttpVersion10), telemetry, "alice", "d1")
    assert not heads.known


def test_a_head_is_of_the_request_that_is_under_way_or_it_is_not_remembered() -> None:
    for behind in (whole(4, b"X: y\r\n"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        heads = KnownHeads()
        heads.passed(whole(4) + b"body" + behind, alone=True)
        heads.learn(make_mocked_request("POST", "/", GIVEN), telemetry, "alice", "d1")
        assert not heads.known
        heads = KnownHeads()
        heads.passed(whole(4) + b"body", alone=True)
        heads.passed(behind, alone=False)
        heads.learn(make_mocked_request("POST", "/", GIVEN), telemetry, "alice", "d1")
        assert not heads.known


def test_so_many_are_remembered_and_none_that_is_long() -> None:
    heads, sizes = KnownHeads(), set[int]()
    for number in range(400):
        learn(heads, whole(4, b"X: %d\r\n" % number))
        heads.passed(b"body", alone=False)
        assert heads.find(whole(4, b"X: %d\r\n" % number) + b"body")
        sizes.add(len(heads.known))
    assert sizes == set(range(1, max(sizes) + 1))
    assert 0.8 * REMEMBERED_BYTES < max(sizes) * (len(whole(4)) + 5 + OVERHEAD) <= REMEMBERED_BYTES
    learn(heads, whole(4, b"X: " + b"y" * REMEMBERED_BYTES + b"\r\n"))
    assert not heads.known


def test_where_no_head_comes_again_nothing_is_remembered_any_more() -> None:
    heads = KnownHeads()
    for number in range(FRUITLESS):
        learn(heads, whole(4, b"X: %d\r\n" % number))
        heads.passed(b"body", alone=False)
        assert heads.between
    learn(heads, whole(4, b"X: y\r\n"))
    assert not heads.known
    assert not heads.between


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (whole(4), 4),
        (whole(4).replace(b"Content-Length: 4", b"content-length:4 "), 4),
        (HEAD + b"\r\n", 0),
        (whole(4)[:-2], None),
        (whole(4, b"Content-Length: 4\r\n"), None),
        (whole(4, b"Transfer-Encoding: chunked\r\n"), None),
        (whole(4, b"Connection: Upgrade\r\n"), None),
        (whole(4, b"X: y\r\n z\r\n"), None),
        (whole(4, b"X: y\n"), None),
        (whole(4, b"X: y\rz\r\n"), None),
        (HEAD + b"Content-Length: +4\r\n\r\n", None),
        (HEAD + b"Content-Length: 4, 4\r\n\r\n", None),
        (b"\r\n" + whole(4), None),
        (b"GET" + whole(4)[4:], None),
    ],
)
def test_the_length_behind_a_head_is_certain_or_not_known(head: bytes, length: int | None) -> None:
    assert body_length(head) == length


_BODIES = st.sampled_from([b"", b"a", b"\r\n\r\n", whole(3), whole(3) + b"abc", b"x" * 300])
_CERTAIN = st.builds(lambda body: whole(len(body)) + body, _BODIES)
_OTHER = st.sampled_from(
    [
        b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n6\r\n" + b"POST \r" + b"\r\n0\r\n\r\n",
        b"\r\n" + whole(1) + b"a",
        b"PUT" + whole(1)[4:] + b"a",
    ]
)


@given(st.lists(_CERTAIN | _OTHER, max_size=5), st.data())
def test_where_a_request_begins_is_known_or_said_not_to_be(requests: list[bytes], data: Any) -> None:
    heads, stream = KnownHeads(), b"".join(requests)
    begins = {sum(map(len, requests[:count])) for count in range(len(requests) + 1)}
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        heads.passed(stream[at : at + step], alone=data.draw(st.booleans()))
        at += step
        assert not heads.between or at in begins


@given(st.binary(max_size=500))
@example(whole(4))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    heads = KnownHeads()
    learn(heads, whole(4))
    heads.passed(data, alone=True)
    heads.find(data)
    body_length(data)
