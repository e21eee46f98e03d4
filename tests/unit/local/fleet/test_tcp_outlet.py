"""Readings over TCP: acks and refusals are counted, a lost connection is made anew, a login that fails is reported."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.errors import PermanentError, TransientError
from app.local.fleet.devices import USERS
from app.local.fleet.gateway_fleet import Sample
from app.local.fleet.tcp_outlet import TcpOutlet

SAMPLES = [Sample(number, sequence, 1e9) for sequence in (1, 2) for number in (0, 1)]  # of two users


class Gateway:
    """Refuses the second line of each connection; hangs up after the login as often as the test wants."""

    def __init__(self) -> None:
        self.hangs_up, self.welcome, self.logins = 0, True, list[str]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.logins.append(json.loads(await reader.readline())["user"])
            writer.write(b'{"ok":true}\n' if self.welcome else b'{"ok":false,"reason":"bad_credentials"}\n')
            if self.hangs_up:
                self.hangs_up -= 1
                return
            count = 0
            while await reader.readline():
                count += 1
                if count == 2:
                    writer.write(b'{"line":2,"reason":"bad_json","error":"..."}\n')
                writer.write(b'{"acked":%d}\n' % count)
        finally:
            writer.close()


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[TcpOutlet]:
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    made = TcpOutlet(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", dict.fromkeys(USERS, "secret"))
    try:
        yield made
    finally:
        await made.close()
        server.close()
        await server.wait_closed()


async def test_each_user_has_a_connection_and_refusals_are_counted() -> None:
    gateway = Gateway()
    async with running(gateway) as outlet:
        assert await outlet.send(SAMPLES) == 2
        assert await outlet.send(SAMPLES) == 0
    assert sorted(gateway.logins) == ["fleet-1", "fleet-2"]


async def test_a_connection_that_ends_is_made_anew() -> None:
    gateway = Gateway()
    gateway.hangs_up = 1
    async with running(gateway) as outlet:
        with pytest.raises(TransientError):
            await outlet.send(SAMPLES[:1])
        assert await outlet.send(SAMPLES[:1]) == 0


async def test_a_login_that_fails_is_reported() -> None:
    gateway = Gateway()
    gateway.welcome = False
    async with running(gateway) as outlet:
        with pytest.raises(PermanentError, match="refuses the account fleet-1"):
            await outlet.send(SAMPLES[:1])
