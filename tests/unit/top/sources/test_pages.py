"""A page of an address that is well, down, slow or hostile: there always is an answer, which says why."""

import asyncio
import time

import pytest
from aiohttp import ClientSession

from app.local.servers.common import free_port
from app.top.model.answers import PageAnswer
from app.top.model.samples import PAGE_BYTES
from app.top.sources import pages
from tests.unit.top.deployments import WorkerPage, serving

READY = (200, b'{"status": "ok", "checks": {"assigned": true}}')


async def look(url: str) -> PageAnswer:
    async with pages.session() as client:
        return await pages.ask(client, url)


async def test_a_worker_that_is_well() -> None:
    async with serving(metrics=(200, WorkerPage(stored={0: 7}).text()), ready=READY) as served:
        answer = await look(served.url)
    assert answer.samples
    assert answer.samples.value("iot_rows_stored_total") == 7
    assert (answer.ready, answer.missing, answer.problem) == (True, (), "")


async def test_one_that_is_not_ready_says_what_is_missing() -> None:
    ready = (503, b'{"checks": {"assigned": true, "database": false}}')
    async with serving(metrics=(200, WorkerPage().text()), ready=ready) as served:
        answer = await look(served.url)
    assert (answer.ready, answer.missing) == (False, ("database",))


@pytest.mark.parametrize("ready", [(404, b""), (200, b"nonsense"), (503, b"[1, 2]"), (200, b"{" + b" " * 100_000)])
async def test_ready_may_be_anything(ready: tuple[int, bytes]) -> None:
    async with serving(metrics=(200, WorkerPage().text()), ready=ready) as served:
        answer = await look(served.url)
    assert answer.samples
    assert answer.ready is None


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, b"iot_x 1\n" * (PAGE_BYTES // 8 + 10), "the answer has more than 2048 KiB"),
        (200, b"<html>", "no metrics page"),
        (200, b"", "the page holds no number"),
        (500, b"iot_x 1\n", "/metrics answers 500"),
        (302, b"iot_x 1\n", "/metrics answers 302"),
    ],
)
async def test_hostile_pages(status: int, body: bytes, problem: str) -> None:
    async with serving(metrics=(status, body)) as served:
        answer = await look(served.url)
    assert answer.samples is None
    assert problem in answer.problem


async def test_nobody_there() -> None:
    assert (await look(f"http://127.0.0.1:{free_port()}")).problem == "Connection refused"


async def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SECONDS", 0.3)
    async with serving(metrics=(200, None), ready=(200, None)) as served:
        began = time.monotonic()
        answer = await look(served.url)
    assert time.monotonic() - began < 10, "and not for as long as it hangs"
    assert answer.problem == "no answer within 0.3 s"


async def test_no_http_at_all() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff" * 50_000)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        answer = await look(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert answer.samples is None
    assert answer.problem


async def test_an_account_in_the_address_is_shown_nowhere() -> None:
    async with ClientSession() as client:
        answer = await pages.ask(client, f"http://user:secret@127.0.0.1:{free_port()}")
    assert "secret" not in answer.problem
