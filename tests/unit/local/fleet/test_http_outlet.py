"""Readings over HTTP: what the gateway answers, also when nothing of a batch was good."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from app.errors import PermanentError, TransientError
from app.local.fleet.devices import USERS
from app.local.fleet.gateway_fleet import Sample
from app.local.fleet.http_outlet import HttpOutlet

SAMPLES = [Sample(0, 1, 1e9), Sample(0, 2, 1e9)]


@asynccontextmanager
async def answering(
    status: int, answer: dict[str, object], kind: str = "application/json"
) -> AsyncIterator[HttpOutlet]:
    """An outlet at a server that always answers so."""
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        assert len((await request.read()).split(b"\n")) == len(SAMPLES)
        return web.Response(status=status, text=json.dumps(answer), content_type=kind)

    app = web.Application()
    app.router.add_post("/v1/events", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made = HttpOutlet(f"http://127.0.0.1:{runner.addresses[0][1]}", dict.fromkeys(USERS, "secret"))
    try:
        yield made
        assert seen
    finally:
        await made.close()
        await runner.cleanup()


async def test_refused_items_are_counted() -> None:
    async with answering(200, {"accepted": 1, "rejected": [{"index": 1}]}) as outlet:
        assert await outlet.send(SAMPLES) == 1


async def test_a_batch_with_nothing_good_in_it_is_answered_too() -> None:
    said = {"status": 400, "accepted": 0, "rejected": [{"index": 0}, {"index": 1}]}
    async with answering(400, said, "application/problem+json") as outlet:
        assert await outlet.send(SAMPLES) == 2


@pytest.mark.parametrize(
    ("status", "error"), [(503, TransientError), (429, TransientError), (401, PermanentError), (415, PermanentError)]
)
async def test_what_may_pass_is_tried_again_and_what_may_not_is_raised(status: int, error: type[Exception]) -> None:
    async with answering(status, {"status": status, "detail": "no"}, "application/problem+json") as outlet:
        with pytest.raises(error):
            await outlet.send(SAMPLES)
