"""Broken messages at a gateway that runs: each ends its own call with a status, and nothing else comes of it."""

import asyncio
import logging
from collections import Counter
from pathlib import Path

import grpc
import pytest
from grpc import aio

from app.protobuf.metrics_pb2 import BatchAck
from tests.contract.gateways.grpc.world import TOKEN, batch, client, connected, next_bytes, opened, push, unary, world
from tests.fuzzing import broken

MESSAGES = 3000
PUSH, STREAM = (f"/iot_stream.ingest.v1.Ingest/{name}" for name in ("PushMetrics", "StreamMetrics"))
TOKENS = [
    b"\x0a",
    b"\x12",
    b"\x19",
    b"\xff" * 9 + b"\x01",
    b"\x00",
    b"\x80" * 11,
    b"alice",
    b"\xc3\x28",
    b"/",
    b"\x10\x01",
]
EXPECTED = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


async def test_unary_calls(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seeds = [push(1, [1, 2]).SerializeToString(), push(1, [1], node="bob").SerializeToString(), b"\x10\x01"]
    found: Counter[grpc.StatusCode] = Counter()
    accepted, unsaid = 0, list[bool]()
    async with world(path) as it, client(path) as channel:
        call = unary(channel, PUSH)

        async def one(data: bytes) -> int:
            try:
                ack = BatchAck.FromString(await call(data, metadata=TOKEN))
            except aio.AioRpcError as error:
                found[error.code()] += 1
                unsaid.append(not error.details())
                return 0
            found[grpc.StatusCode.OK] += 1
            return ack.accepted

        inputs = list(broken(seeds, TOKENS, MESSAGES, 13))
        for at in range(0, MESSAGES, 50):
            accepted += sum(await asyncio.gather(*map(one, inputs[at : at + 50])))
        assert len(it.written) == accepted
        assert it.intake.queue_depth == 0
    assert set(found) == EXPECTED
    assert min(found.values()) > 10
    assert not any(unsaid)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_streams(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each stream has good batches before the broken one: they have their acks, whatever comes after them."""
    found: Counter[grpc.StatusCode] = Counter()
    async with world(path) as it, client(path) as channel:
        for data in broken([batch(1, [1, 2]).SerializeToString()], TOKENS, 300, 17):
            stream = opened(channel, STREAM, TOKEN)
            await stream.write(batch(7, [1]).SerializeToString())
            assert BatchAck.FromString(await next_bytes(stream)).accepted == 1
            try:
                await stream.write(data)
                await stream.done_writing()
                while await stream.read() is not aio.EOF:
                    pass
                found[grpc.StatusCode.OK] += 1
            except aio.AioRpcError as error:
                found[error.code()] += 1
        async with connected(path) as stub:
            assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN)).accepted == 1
        assert it.intake.queue_depth == 0
    assert set(found) == {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
