"""The project's own client at the gateway: it waits when asked to, and goes on at the next gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.client import AsyncIngestClient, ClientCredentials, GatewayRefusedError, Metric, Pace
from app.core.ingress.limits import IngressLimits
from app.protobuf.ingest_pb2 import GetHealthResponse
from tests.contract.gateways.grpc.world import TIME_US, world

PACE = Pace(batch_items=10, in_flight=4, linger=0.05, answer=5, first_pause=0.01, longest_pause=0.2)
GOOD = ClientCredentials(token="good")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


def client(path: Path, credentials: ClientCredentials = GOOD) -> AsyncIngestClient:
    return AsyncIngestClient(f"unix://{path}", credentials, PACE, lambda *_: None)


def metric(number: int) -> Metric:
    return Metric(node_id="alice", sensor_id="s1", value=number + 0.5, time_us=TIME_US, sequence_id=number + 1)


def sequence(written: list[bytes]) -> list[int]:
    return [int(value.partition(b'"sequence_id":')[2].rstrip(b"}")) for value in written]


async def test_pushes_flushes_and_asks(path: Path) -> None:
    async with world(path) as it, client(path) as sender:
        acked = await sender.push([metric(number) for number in range(25)], force_flush=True)
        assert acked.accepted == 25
        assert await sender.flush() == 0
        assert (await sender.health()).status == GetHealthResponse.STATUS_SERVING
        assert sequence(it.written) == list(range(1, 26))


async def test_who_is_not_known_is_refused_at_once(path: Path) -> None:
    async with world(path) as it, client(path, ClientCredentials(token="bad")) as sender:
        with pytest.raises(GatewayRefusedError, match="no account"):
            await sender.push([metric(1)])
        assert it.written == []


async def test_a_stream_goes_on_at_the_next_gateway_and_nothing_overtakes(path: Path) -> None:
    given = asyncio.Event()

    async def metrics() -> AsyncIterator[Metric]:
        for number in range(400):
            if number == 200:
                given.set()
                await asyncio.sleep(0.3)
            yield metric(number)

    async with client(path) as sender:
        async with world(path) as first:
            sending = asyncio.create_task(_all(sender, metrics()))
            await given.wait()
        await asyncio.sleep(0.2)
        async with world(path) as second:
            assert await asyncio.wait_for(sending, 20) == 400
    assert set(sequence([*first.written, *second.written])) == set(range(1, 401))
    order = list(dict.fromkeys(sequence([*first.written, *second.written])))
    assert order == sorted(order)


async def _all(sender: AsyncIngestClient, metrics: AsyncIterator[Metric]) -> int:
    return sum([acked.accepted async for acked in sender.stream(metrics)])


async def test_over_a_limit_it_sends_the_rest_when_there_is_room_again(path: Path) -> None:
    async with world(path, limits=IngressLimits(user_messages=40.0, burst=0.5)) as it, client(path) as sender:
        acked = await asyncio.wait_for(sender.push([metric(number) for number in range(60)]), 20)
        assert acked.accepted == 60
        assert sorted(set(sequence(it.written))) == list(range(1, 61))
