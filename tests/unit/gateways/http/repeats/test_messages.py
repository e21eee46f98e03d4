"""Messages whose head their connection has sent before: the same answers as by aiohttp's way, in the same cases."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from prometheus_client import REGISTRY

from app.core.ingress.limits import IngressLimits
from app.gateways.http import identity
from app.gateways.http.repeats.heads import KnownHead
from app.gateways.http.repeats.messages import Repeats
from app.ports import Refusal
from tests.unit.gateways.http.gateway import GOOD, JSON, TELEMETRY, Serving, serving
from tests.waiting import until

DATE = re.compile(rb"Date: [^\r]+\r\n")


def request(body: bytes = GOOD, token: str = "token-of-alice", path: str = TELEMETRY, more: bytes = b"") -> bytes:
    """A request."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    return head.encode() + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def body(number: int, extra: bytes = b"") -> bytes:
    """A message, all of one length."""
    return b'{"sequence_id":%04d,"timestamp":1795226400.5%b}' % (1000 + number, extra)


class Sender:
    """One connection, its answers one after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        """The next answer, without its date."""
        async with asyncio.timeout(5.0):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            return DATE.sub(b"", head) + await self.reader.readexactly(length)

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        return await self.answer()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each request with a known head, whether it went the short way."""
    found: list[bool] = []
    take = Repeats.take

    def spy(self: Repeats, connection: Any, head: KnownHead, body: bytes) -> bool:
        found.append(take(self, connection, head, body))
        return found[-1]

    monkeypatch.setattr(Repeats, "take", spy)
    return found


@asynccontextmanager
async def sender(here: Serving) -> AsyncIterator[Sender]:
    """A connection on which nothing was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", here.gateway.port)
    await asyncio.sleep(0.02)
    try:
        yield Sender(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"gateway": "http", **labels}) or 0.0


async def test_the_second_goes_the_short_way_and_is_answered_and_recorded_alike(taken: list[bool]) -> None:
    accepted = counted("iot_gateway_requests_total", outcome="accepted")
    async with serving() as here, sender(here) as one:
        answers = [await one.ask(request(body(number))) for number in range(3)]
        assert taken == [True, True]
        assert answers == [answers[0]] * 3
        assert answers[0].startswith(b"HTTP/1.1 200 OK\r\n")
        first, *others = here.writer.records
        assert [record.value for record in here.writer.records] == [body(number) for number in range(3)]
        for other in others:
            assert (other.key, other.kind, other.headers[:2]) == (first.key, first.kind, first.headers[:2])
            assert [name for name, _ in other.headers] == [name for name, _ in first.headers]
        assert here.accounts.asked == 1
    assert counted("iot_gateway_requests_total", outcome="accepted") == accepted + 3


async def test_behind_a_proxy_that_numbers_requests_they_go_the_short_way_too(taken: list[bool]) -> None:
    async with serving() as here, sender(here) as one:
        for number in range(3):
            assert b" 200 OK" in await one.ask(request(more=b"X-Request-ID: %d\r\n" % number))
        assert taken == [True, True]


async def test_sensors_of_nodes_go_the_short_way_too(taken: list[bool]) -> None:
    path = "/v1/nodes/alice/sensors/s1/telemetry"
    async with serving() as here, sender(here) as one:
        for _ in range(2):
            assert b" 200 OK" in await one.ask(request(b'{"value":1}', path=path))
        assert taken == [True]
        assert {record.headers[0][1] for record in here.writer.records} == {b"iot/alice/s1/telemetry"}


async def test_what_comes_behind_waits_for_its_turn(taken: list[bool]) -> None:
    async with serving() as here, sender(here) as one:
        await one.ask(request(body(0)))
        here.writer.there.clear()
        one.send(request(body(1)))
        await until(lambda: here.intake.queue_depth == 1)
        for number in (2, 3):
            one.send(request(body(number)))
            await asyncio.sleep(0.02)
        one.send(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n" + request(body(4)))
        await asyncio.sleep(0.1)
        assert here.intake.queue_depth == 1
        here.writer.there.set()
        assert [(await one.answer()).count(b'"accepted":1') for _ in range(5)] == [1, 1, 1, 0, 1]
        assert [record.value for record in here.writer.records] == [body(number) for number in range(5)]
        assert taken == [True, True]


@pytest.mark.parametrize("bad", [b'{"x":1', b"{}", body(0, b',"device_id":"d9"'), body(0, b',"t":"\\u0000"')])
async def test_a_bad_body_is_refused_as_ever(taken: list[bool], bad: bytes) -> None:
    async with serving() as here, sender(here) as one, sender(here) as other:
        good = body(0, b" " * (len(bad) - len(body(0)))) if len(bad) > len(body(0)) else GOOD
        await one.ask(request(good))
        bad = bad.ljust(len(good))
        answer = await one.ask(request(bad))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer == await other.ask(request(bad))
        assert b" 200 OK" in await one.ask(request(good))
        assert taken == [False, True]


async def test_a_token_that_is_revoked_is_known_for_no_longer(
    taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "KNOWN_SECONDS", 0.3)
    async with serving() as here, sender(here) as one:
        for _ in range(2):
            assert b" 200 OK" in await one.ask(request())
        here.accounts.answer = Refusal.BAD_CREDENTIALS
        await asyncio.sleep(0.4)
        assert b" 401 " in await one.ask(request())
        assert taken == [True, False]


async def test_each_head_is_its_own_senders(taken: list[bool]) -> None:
    async with serving() as here, sender(here) as one:
        await one.ask(request())
        assert b" 401 " in await one.ask(request(token="wrong"))
        for _ in range(3):
            assert b" 403 " in await one.ask(request(token="token-of-bob"))
        assert b" 200 OK" in await one.ask(request()), "by the long way: the last that was known is bob"
        assert b" 200 OK" in await one.ask(request())
        assert taken == [False, True]


async def test_kafka_away_is_said_in_time_and_the_connection_goes_on(taken: list[bool]) -> None:
    unavailable = counted("iot_gateway_requests_total", outcome="unavailable")
    async with serving(http_answer_seconds=0.5) as here, sender(here) as one:
        await one.ask(request())
        here.writer.there.clear()
        answer = await one.ask(request())
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"no_ack"' in answer
        assert b"Retry-After: 5" in answer
        assert b"Connection" not in answer
        here.writer.there.set()
        assert b" 200 OK" in await one.ask(request())
        assert taken == [True, True]
    assert counted("iot_gateway_requests_total", outcome="unavailable") == unavailable + 1


async def test_what_kafka_refuses_for_ever_is_rejected_as_ever(taken: list[bool]) -> None:
    async with serving() as here, sender(here) as one, sender(here) as other:
        here.writer.refuses = body(1)
        await one.ask(request(body(0)))
        answer = await one.ask(request(body(1)))
        assert answer.startswith(b"HTTP/1.1 4")
        assert sorted(answer.split(b"\r\n")) == sorted((await other.ask(request(body(1)))).split(b"\r\n"))
        assert taken == [True]
        assert len(here.writer.dead) == 2


async def test_limits_hold(taken: list[bool]) -> None:
    limits = IngressLimits(device_messages=0.1, burst=30.0)
    async with serving(limits) as here, sender(here) as one, sender(here) as other:
        for _ in range(3):
            assert b" 200 OK" in await one.ask(request())
        answer = await one.ask(request())
        assert answer.startswith(b"HTTP/1.1 429 ")
        lines = [line for line in answer.split(b"\r\n") if not line.startswith(b"Retry-After")]
        again = (await other.ask(request())).split(b"\r\n")
        assert sorted(lines) == sorted(line for line in again if not line.startswith(b"Retry-After"))
        assert b"Retry-After" in answer
        assert taken == [True] * 3
        assert len(here.writer.records) == 3


async def test_requests_under_way_of_an_account_are_bounded(taken: list[bool]) -> None:
    async with serving(gateway_account_connections=1) as here, sender(here) as one, sender(here) as other:
        assert b" 200 OK" in await one.ask(request())
        assert b" 200 OK" in await other.ask(request())
        here.writer.there.clear()
        one.send(request())
        await until(lambda: here.intake.queue_depth == 1)
        assert b'"too_many_requests"' in await other.ask(request())
        here.writer.there.set()
        assert b" 200 OK" in await one.answer()
        assert b" 200 OK" in await other.ask(request())
        assert taken == [True, False, True]


async def test_bodies_that_wait_for_kafka_fill_the_room(taken: list[bool]) -> None:
    async with serving(gateway_body_max_bytes=10_000, gateway_buffer_bytes=40_000) as here:
        large = body(0, b" " * 9000)
        async with contextlib.AsyncExitStack() as stack:
            all_of_them = [await stack.enter_async_context(sender(here)) for _ in range(6)]
            for one in all_of_them:
                assert b" 200 OK" in await one.ask(request(large))
            here.writer.there.clear()
            for one in all_of_them:
                one.send(request(large))
                await asyncio.sleep(0.02)
            assert taken.count(False) > 0
            here.writer.there.set()
            answers = [await one.answer() for one in all_of_them]
            assert {one[9:12] for one in answers} == {b"200", b"503"}


async def test_the_stop_answers_what_is_under_way_and_says_that_it_is_the_last(taken: list[bool]) -> None:
    async with serving() as here, sender(here) as one:
        await one.ask(request())
        here.writer.there.clear()
        one.send(request())
        await until(lambda: here.intake.queue_depth == 1)
        stopping = asyncio.create_task(here.gateway.stop(5.0))
        await asyncio.sleep(0.2)
        assert not stopping.done()
        here.writer.there.set()
        answer = await one.answer()
        assert b" 200 OK" in answer
        assert b"Connection: close\r\n" in answer
        assert await one.reader.read() == b""
        async with asyncio.timeout(2.0):
            await stopping
        assert taken == [True]


async def test_the_stop_waits_for_a_body_whose_head_has_come(taken: list[bool]) -> None:
    async with serving() as here, sender(here) as one:
        await one.ask(request())
        head = request()[: -len(GOOD)]
        one.send(head)
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(here.gateway.stop(5.0))
        await asyncio.sleep(0.2)
        one.send(GOOD)
        assert b"Connection: close\r\n" in await one.answer()
        await stopping
        assert len(here.writer.records) == 2


async def test_head_and_body_apart_go_the_short_way(taken: list[bool]) -> None:
    async with serving() as here, sender(here) as one:
        for _ in range(3):
            one.send(request()[: -len(GOOD)])
            await asyncio.sleep(0.02)
            assert b" 200 OK" in await one.ask(GOOD)
        assert taken == [True, True]
        one.send(request()[: -len(GOOD)])
        await asyncio.sleep(0.02)
        one.send(GOOD[:5])
        await asyncio.sleep(0.02)
        assert b" 200 OK" in await one.ask(GOOD[5:])
        assert taken == [True, True]


async def test_a_body_that_does_not_follow_its_head_is_bounded_in_time(taken: list[bool]) -> None:
    async with serving(http_body_seconds=0.5) as here, sender(here) as one:
        await one.ask(request())
        one.send(request()[: -len(GOOD)])
        answer = await one.answer()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"slow_body"' in answer


async def test_a_client_that_is_gone_leaves_nothing_behind(taken: list[bool]) -> None:
    broken = counted("iot_gateway_rejected_total", reason="bad_body")
    async with serving(gateway_account_connections=1) as here:
        async with sender(here) as one:
            await one.ask(request())
            one.send(request()[: -len(GOOD)])
            await asyncio.sleep(0.05)
        await until(lambda: counted("iot_gateway_rejected_total", reason="bad_body") == broken + 1)
        async with sender(here) as one:
            await one.ask(request())
            here.writer.there.clear()
            one.send(request())
            await until(lambda: here.intake.queue_depth == 1)
        await asyncio.sleep(0.05)
        here.writer.there.set()
        await until(lambda: here.intake.queue_depth == 0)
        async with sender(here) as one:
            assert b" 200 OK" in await one.ask(request()), "its seat is free again"
        async with asyncio.timeout(1.0):
            await here.gateway.stop(5.0)
        assert len(here.writer.records) == 4


async def test_a_connection_is_idle_from_its_last_answer_on(taken: list[bool]) -> None:
    async with serving(gateway_idle_seconds=1.0) as here, sender(here) as one:
        for _ in range(4):
            assert b" 200 OK" in await one.ask(request())
            await asyncio.sleep(0.5)
        here.writer.there.clear()
        one.send(request())
        await asyncio.sleep(1.3)
        here.writer.there.set()
        assert b" 200 OK" in await one.answer()
        began = asyncio.get_running_loop().time()
        assert await asyncio.wait_for(one.reader.read(), 4.0) == b""
        assert 0.8 < asyncio.get_running_loop().time() - began < 3.0
        assert taken == [True] * 4


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_clients_session_goes_the_short_way(taken: list[bool], encrypted: bool, tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    ca.configure_trust(context)
    async with serving(http_certificate_file=tmp_path / "server.pem" if encrypted else None) as here:
        url = here.url.replace("http:", "https:" if encrypted else "http:") + TELEMETRY
        async with aiohttp.ClientSession(headers=JSON) as client:
            for number in range(4):
                async with client.post(url, data=body(number), ssl=context) as answer:
                    assert await answer.json() == {"accepted": 1, "rejected": []}
    assert taken.count(True) == 3
