"""A stop answers what is in flight, says so and closes; what is not answered its sender sends again."""

import asyncio
import json

import pytest

from app.gateways.tcp import wire
from tests.contract.gateways.tcp.serving import event, served
from tests.waiting import until

SOON = 20.0  # seconds; a stop that waits for what it should not waits for twice as long, or for ever


async def test_what_is_in_flight_is_answered_and_then_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINGER_SECONDS", 2 * SOON)  # for which only whoever does not close is waited
    async with served() as tcp:
        busy, quiet, fresh = await tcp.logged_in(), await tcp.logged_in(), await tcp.connect()
        tcp.writer.there.clear()
        busy.send(event(1), b"bad\n", event(2))
        await until(lambda: tcp.intake.queue_depth == 2)
        stopping = asyncio.create_task(tcp.gateway.stop(2 * SOON))
        for client in (quiet, fresh):
            (last,) = await client.rest()
            assert (last["ok"], last["reason"]) == (False, "stopping")
            client.writer.close()
        busy.send(event(3))  # too late: it has no ack
        assert await busy.silent(0.2)
        tcp.writer.there.set()
        answers = await busy.rest()
        assert [one.get("acked") or one["reason"] for one in answers] == ["bad_json", 3, "stopping"]
        busy.writer.close()
        async with asyncio.timeout(SOON):
            await stopping
        assert [json.loads(one.value)["sequence_id"] for one in tcp.writer.records] == [1, 2]
        assert tcp.gateway.ready() == {"tcp": False}


async def test_a_stop_does_not_wait_longer_than_it_may_for_kafka() -> None:
    async with served() as tcp:
        client = await tcp.logged_in()
        tcp.writer.there.clear()
        client.send(event(1))
        await until(lambda: tcp.intake.queue_depth == 1)
        async with asyncio.timeout(SOON):
            await tcp.gateway.stop(0.5)
        assert await _answers(client.reader) == b""


async def test_a_stop_waits_only_a_little_for_whoever_does_not_close() -> None:
    async with served() as tcp:
        client = await tcp.logged_in()
        async with asyncio.timeout(SOON):
            await tcp.gateway.stop(2 * SOON)
        assert (await client.said())["reason"] == "stopping"


async def test_the_last_answers_arrive_though_their_reader_is_still_sending() -> None:
    """A connection that is closed with something unread is reset, and the acks are gone."""
    async with served() as tcp:
        client = await tcp.logged_in()
        tcp.writer.there.clear()
        client.send(*[event(number) for number in range(100)])
        await until(lambda: tcp.intake.queue_depth == 100)
        stopping = asyncio.create_task(tcp.gateway.stop(10.0))
        await asyncio.sleep(0.05)
        client.send(event(0) * 50_000)  # which nobody reads any more
        await asyncio.sleep(0.1)
        tcp.writer.there.set()
        answers = await client.rest()
        assert [one.get("acked") or one["reason"] for one in answers] == [100, "stopping"]
        client.writer.transport.abort()
        await stopping


async def _answers(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""
