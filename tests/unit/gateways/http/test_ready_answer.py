"""Answers that are ready: what a client reads is what aiohttp would have written, and its date is right."""

import email.utils
import time
from http import HTTPStatus

import pytest
from aiohttp import web

from app.gateways.http.problem import NATIVE, Problem, RejectedItem, of_items, whole
from app.gateways.http.ready_answer import AnswerHead
from tests.unit.gateways.http.gateway import GOOD, JSON, TELEMETRY, serving


def head(raw: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers, body."""
    text, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = text.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def test_the_bytes_of_an_answer() -> None:
    made = AnswerHead(HTTPStatus.OK, (("Content-Type", "application/json"),))
    first, headers, body = head(made.whole(b"{}"))
    assert (first, body) == ("HTTP/1.1 200 OK", b"{}")
    sent = email.utils.parsedate_to_datetime(headers.pop("Date")).timestamp()
    assert abs(sent - time.time()) <= 2
    assert headers == {"Content-Type": "application/json", "Server": "iot-stream", "Content-Length": "2"}
    assert "Content-Length" not in head(AnswerHead(HTTPStatus.NO_CONTENT, ()).whole(b""))[1]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"])
async def test_every_client_is_answered_in_its_version(version: bytes, more: bytes) -> None:
    async with serving(gateway_idle_seconds=0.5) as here:
        lines = b"Host: x\r\nAuthorization: Bearer token-of-alice\r\nContent-Length: %d\r\n" % len(GOOD)
        found = await here.raw(b"POST %b HTTP/%b\r\n%b%b\r\n%b" % (TELEMETRY.encode(), version, lines, more, GOOD))
        first, headers, body = head(found)
        assert first == f"HTTP/{version.decode()} 200 OK"
        assert body == b'{"accepted":1,"rejected":[]}'
        assert headers["Content-Length"] == str(len(body))
        kept = version == b"1.1" and b"close" not in more
        if kept:
            assert "Connection" not in headers
        elif version == b"1.1":
            assert headers["Connection"] == "close"


async def test_after_the_stop_began_an_answer_says_that_its_connection_ends() -> None:
    async with serving() as here:
        here.writer.there.clear()
        import asyncio

        asking = asyncio.create_task(here.ask(TELEMETRY, GOOD, JSON))
        await asyncio.sleep(0.2)
        stopping = asyncio.create_task(here.gateway.stop(2.0))
        await asyncio.sleep(0.1)
        here.writer.there.set()
        assert (await asking).headers["Connection"] == "close"
        await stopping


def test_of_several_reasons_waiting_goes_before() -> None:
    items = [RejectedItem(0, "bad_json", "no JSON"), RejectedItem(1, "rate_limited", "too many")]
    found = of_items(items, 3.2)
    assert (found.status, found.reason, found.retry_after) == (429, "rate_limited", 3.2)
    assert of_items(items[:1], None).status == 400
    assert "1 more" in of_items(items, 3.2).detail


def test_a_problem_is_the_same_for_aiohttp_and_for_a_socket() -> None:
    problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "later", 4.1, (("X", "y"),))
    first, headers, body = head(whole(problem))
    answer = NATIVE.refused(problem)
    assert isinstance(answer, web.Response)
    assert (first, body) == ("HTTP/1.1 503 Service Unavailable", answer.body)
    assert (headers["Retry-After"], headers["X"], headers["Connection"]) == ("5", "y", "close")
    assert answer.headers["Retry-After"] == "5"
