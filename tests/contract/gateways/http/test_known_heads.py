"""Where aiohttp's parser and the gateway's count of bytes (repeats.heads) say that a request ends: at the same byte."""

import asyncio
from itertools import product
from typing import Any

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from app.gateways.http.problem import HEAD_LIMITS
from app.gateways.http.repeats.heads import body_length, same

HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nContent-Length: 4\r\n\r\n"
LINES = [
    b"Content-Length: 4\r\n", b"content-length:\t4 \r\n", b"Content-Length: 04\r\n", b"Content-Length : 4\r\n",
    b"X-Content-Length: 9\r\n", b"X: Content-Length: 9\r\n", b"X: y\r\n\tContent-Length: 9\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Expect: 100-continue\r\n", b"X:\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Content-Length: 4\x0b\r\n", b"Content-Length: 4;\r\n", b"\n",
    b"X: y\n", b"Connection: close\r\n",
]  # fmt: skip


def parsed(data: bytes) -> list[Any] | None:
    """The messages that aiohttp finds; None: it refuses the bytes."""
    loop, limits = asyncio.new_event_loop(), dict[str, Any](HEAD_LIMITS)
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16, auto_decompress=False, **limits)
        return list(parser.feed_data(data)[0])
    except HttpProcessingError:
        return None
    finally:
        loop.close()


def agree(head: bytes) -> bool:
    """Whether a length was certain; then it is aiohttp's too, of what it takes at all."""
    length = body_length(head)
    if length is None or length > 10_000:
        return False
    found = parsed(head + b"x" * length)
    assert found is None or (len(found) == 1 and found[0][1].is_eof()), head
    if found and length:
        short = parsed(head + b"x" * (length - 1))
        assert short is not None, head
        assert not short[0][1].is_eof(), head
    if found and not found[0][0].should_close:
        both = parsed(head + b"x" * length + HEAD + b"body")
        assert both is not None, head
        assert [message.path for message, _ in both] == ["/a", "/a"], head
    return True


def test_a_plain_head_is_certain() -> None:
    assert agree(HEAD)


def test_lines_of_all_kinds() -> None:
    certain = [
        agree(b"POST /a HTTP/1.1\r\nHost: x\r\n" + b"".join(pair) + b"\r\n") for pair in product(LINES, repeat=2)
    ]
    assert 20 < sum(certain) < len(certain)


@given(st.lists(st.sampled_from(LINES), max_size=5))
def test_more_lines(lines: list[bytes]) -> None:
    agree(b"POST /a HTTP/1.1\r\nHost: x\r\n" + b"".join(lines) + b"\r\n")


@given(st.integers(0, len(HEAD)), st.integers(0, 8), st.binary(max_size=6) | st.sampled_from([b"\r", b"\n", b"\r\n"]))
@example(4, 0, b"\r\n")
def test_a_head_with_a_piece_changed(at: int, less: int, put: bytes) -> None:
    agree(HEAD[:at] + put + HEAD[at + less :])


@given(st.binary(max_size=8) | st.text(max_size=150).map(str.encode) | st.from_regex(rb"[ -~]{1,140}"))
@example(b"4711")
@example(b"1\r\nContent-Length: 4")
def test_heads_that_count_as_the_same_are_the_same_to_aiohttp(value: bytes) -> None:
    start, end = HEAD[:-2] + b"X-Request-ID: ", b"\r\n\r\n"
    head = start + value + end
    if same(head) == same(start + b"1" + end):
        found, other = parsed(head + b"body"), parsed(start + b"1" + end + b"body")
        assert found is not None
        assert other is not None
        assert len(found) == len(other) == 1
        first, second = found[0][0], other[0][0]
        assert list(first.headers.items())[:-1] == list(second.headers.items())[:-1]
        assert (first.path, first.should_close, found[0][1].is_eof()) == (second.path, second.should_close, True)
