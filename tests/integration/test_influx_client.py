"""What the sink `influx` says to a server of version 2, and what it makes of each answer."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.settings import Settings
from app.sinks.influx.client import InfluxClient, _compressed
from app.sinks.influx.sink import InfluxSink
from app.sinks.port import SinkMisconfigured, SinkUnavailable
from tests.sink_readings import sink_record

pytestmark = pytest.mark.integration
TOKEN = "a-token=="  # not a secret


class ScriptedServer:
    """Answers what it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.queries: list[dict[str, str]] = []
        app = web.Application(client_max_size=32 << 20)
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self.url = ""

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.headers.append(dict(request.headers))
        self.queries.append({"": request.path, **request.query})
        return self.answers.pop(0) if self.answers else web.Response(status=204)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    made = ScriptedServer()
    await made.start()
    yield made
    await made.stop()


def settings(url: str, **more: Any) -> Settings:
    known = {"influx_url": url, "influx_token": TOKEN, "influx_org": "acme", "influx_bucket": "my bucket"}
    return Settings(_env_file=None, **(known | more))


def answer(status: int, text: str = "", **headers: str) -> web.Response:
    return web.Response(status=status, text=text, headers={name.replace("_", "-"): v for name, v in headers.items()})


async def test_a_write_of_version_2(server: ScriptedServer) -> None:
    client = InfluxClient(settings(f"{server.url}/prefix/"))
    assert await client.post(b"m x=1 1\n") is None
    assert server.queries == [{"": "/prefix/api/v2/write", "org": "acme", "bucket": "my bucket", "precision": "us"}]
    assert server.headers[0]["Authorization"] == f"Token {TOKEN}"
    assert server.bodies == [b"m x=1 1\n"]
    await client.close()


async def test_a_write_of_version_1(server: ScriptedServer) -> None:
    client = InfluxClient(settings(server.url, influx_version=1, influx_bucket="iot/week"))
    await client.post(b"m x=1 1\n")
    assert server.queries == [{"": "/write", "db": "iot", "rp": "week", "precision": "u"}]
    assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    await client.close()


async def test_an_account_means_version_1_and_may_be_in_the_url(server: ScriptedServer) -> None:
    url = server.url.replace("://", "://me%40home:p%3Aw@")
    client = InfluxClient(settings(url, influx_token=None, influx_version=1))
    await client.post(b"m x=1 1\n")
    named = InfluxClient(settings(server.url, influx_token=None, influx_username="me@home", influx_password="p:w"))
    await named.post(b"m x=1 1\n")
    assert [query[""] for query in server.queries] == ["/write", "/write"]
    assert server.headers[0]["Authorization"] == server.headers[1]["Authorization"]
    assert "me" not in client.where
    await client.close()
    await named.close()


async def test_large_and_compressed_bodies(server: ScriptedServer) -> None:
    body = b"m x=1 1\n" * 300_000
    client = InfluxClient(settings(server.url))
    await client.post(body)
    small = InfluxClient(settings(server.url, influx_gzip=True))
    await small.post(body)
    assert server.bodies[0] == body
    assert "Content-Encoding" not in server.headers[0]
    assert len(server.bodies[1]) == len(body), "aiohttp's server inflates it"
    assert server.headers[1]["Content-Encoding"] == "gzip"
    assert int(server.headers[1]["Content-Length"]) < len(body) / 50
    await client.close()
    await small.close()


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (400, '{"code":"invalid","message":"unable to parse"}', "unable to parse"),
        (413, "", "the server answers 413"),
        (422, '{"message":"failure writing points: beyond retention"}', "failure writing points: beyond retention"),
    ],
)
async def test_lines_that_are_refused(server: ScriptedServer, status: int, text: str, said: str) -> None:
    client = InfluxClient(settings(server.url))
    server.answers = [answer(status, text)]
    assert await client.post(b"m x=1 1\n") == said
    await client.close()


@pytest.mark.parametrize("status", [302, 401, 403, 404, 408, 429, 500, 502, 503, 504])
async def test_all_else_is_an_outage(server: ScriptedServer, status: int) -> None:
    client = InfluxClient(settings(server.url))
    server.answers = [answer(status, "no", Retry_After="7", Location="/elsewhere")]
    with pytest.raises(SinkUnavailable) as caught:
        await client.post(b"m x=1 1\n")
    assert TOKEN not in str(caught.value)
    assert caught.value.retry_after == (7.0 if status not in (302, 401, 403, 404) else 0.0)
    assert len(server.bodies) == 1
    await client.close()


@pytest.mark.parametrize(
    "answers",
    [
        [answer(204)],
        [answer(400, '{"code":"invalid","message":"writing requires points"}')],
        [answer(400, "what is #?"), answer(204)],
    ],
)
async def test_a_server_that_takes_lines(server: ScriptedServer, answers: list[web.Response]) -> None:
    client = InfluxClient(settings(server.url))
    server.answers = answers
    await client.check()
    assert not server.answers
    assert b"".join(server.bodies).strip() in (b"", b"# nothing"), "nothing is written"
    await client.close()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([answer(401, "unauthorized")], "IOT_INFLUX_TOKEN"),
        ([answer(404, '{"code":"not found","message":"bucket \\"x\\" not found"}')], "IOT_INFLUX_BUCKET"),
        ([answer(404, "404 page not found")], "IOT_INFLUX_VERSION is 1"),
        ([answer(400, "give an org"), answer(400, "give an org")], "IOT_INFLUX_ORG"),
    ],
)
async def test_a_server_that_takes_none(server: ScriptedServer, answers: list[web.Response], words: str) -> None:
    client = InfluxClient(settings(server.url))
    server.answers = answers
    with pytest.raises(SinkMisconfigured, match=words):
        await client.check()
    await client.close()


async def test_a_server_that_is_not_ready_is_asked_again(server: ScriptedServer) -> None:
    client = InfluxClient(settings(server.url))
    server.answers = [answer(503)]
    with pytest.raises(SinkUnavailable):
        await client.check()
    await client.check()
    await client.close()


async def test_a_token_that_is_renewed(server: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    client = InfluxClient(settings(server.url, influx_token=None, influx_token_file=file))
    await client.post(b"m x=1 1\n")
    file.write_text("new")
    server.answers = [answer(401)]
    with pytest.raises(SinkUnavailable):
        await client.post(b"m x=1 1\n")
    await client.post(b"m x=1 1\n")
    assert [one["Authorization"] for one in server.headers] == ["Token old", "Token old", "Token new"]
    file.unlink()
    server.answers = [answer(401)]
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            await client.post(b"m x=1 1\n")
    await client.close()


async def test_a_setting_that_turns_wrong_makes_no_dead_letters(server: ScriptedServer) -> None:
    """A server that begins to refuse everything is asked with no lines before any line is given up."""
    made = InfluxSink("influx", settings(server.url))
    made.add([sink_record(1, temperature=1), sink_record(2, temperature=2)])
    server.answers = [answer(400, "give an org") for _ in range(3)]
    with pytest.raises(SinkUnavailable) as caught:
        await made.flush()
    assert "IOT_INFLUX_ORG" in caught.value.cure
    assert made.held.records == 2
    server.answers = []
    assert dict((await made.flush()).upto) == {0: 3}
    await made.close()


async def test_a_flush_that_breaks_off_tells_what_was_done(server: ScriptedServer) -> None:
    made = InfluxSink("influx", settings(server.url, influx_batch=2))
    made.add([sink_record(n, temperature=n) for n in range(6)])
    bad = answer(400, "bad")
    server.answers = [answer(204), bad, answer(204), answer(400, "bad"), answer(204), answer(503)]
    with pytest.raises(SinkUnavailable) as caught:
        await made.flush()
    found = caught.value.so_far
    assert dict(found.upto) == {0: 4}
    assert [(record.offset, why) for record, why in found.refused] == [(2, "bad")]
    assert made.held.records == 2
    last = await made.flush()
    assert (dict(last.upto), list(last.refused)) == ({0: 6}, [])
    await made.close()


async def test_a_cancelled_flush_counts_as_not_written(server: ScriptedServer) -> None:
    made = InfluxSink("influx", settings(server.url, influx_batch=2))
    made.add([sink_record(n, temperature=n, partition=n // 2) for n in range(4)])
    waiting = asyncio.Event()
    first = made._client.post

    async def then_waits(body: bytes) -> str | None:
        if server.bodies:
            await waiting.wait()
        return await first(body)

    made._halving._post = then_waits
    flush = asyncio.create_task(made.flush())
    while not server.bodies or made.held.records > 2:  # noqa: ASYNC110 - what is waited for knows no event
        await asyncio.sleep(0.002)
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    assert made.held.records == 2
    made._halving._post = first
    found = await made.flush()
    assert dict(found.upto) == {0: 2, 1: 4}, "what was written before the cancel is told now"
    await made.close()


async def test_what_is_given_up_after_a_cancelled_flush_is_not_told(server: ScriptedServer) -> None:
    made = InfluxSink("influx", settings(server.url))
    made._progress.done([sink_record(1, partition=0), sink_record(2, partition=1)], {0: "bad"})
    await made.revoked([0])
    found = await made.flush()
    assert (dict(found.upto), list(found.refused)) == ({1: 3}, [])


def test_gzip_is_what_others_read() -> None:
    assert gzip.decompress(_compressed(b"m x=1 1\n" * 100)) == b"m x=1 1\n" * 100
