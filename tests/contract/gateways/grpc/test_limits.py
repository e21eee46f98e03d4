"""What one caller can do to other callers: many calls, connections, pings, half messages, bytes that are no HTTP/2."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc import aio

from app.gateways.grpc.callers import CallSlots
from app.local.servers.common import free_port
from app.ports import Account
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from tests.contract.gateways.grpc.world import TOKEN, batch, client, connected, push, unary, world
from tests.waiting import until

PUSH = "/iot_stream.ingest.v1.Ingest/PushMetrics"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


async def code_of(call: "aio.UnaryUnaryCall[bytes, bytes]") -> grpc.StatusCode:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code()


def test_calls_are_bounded_in_all_and_of_one_account() -> None:
    slots = CallSlots(4, of_one=2)
    with ExitStack() as stack:
        assert stack.enter_context(slots.one("alice"))
        assert stack.enter_context(slots.one("alice"))
        assert not stack.enter_context(slots.one("alice"))
        assert stack.enter_context(slots.one("bob"))
        assert stack.enter_context(slots.one("carol"))
        assert not stack.enter_context(slots.one("dave"))
    with slots.one("alice") as free:
        assert free


async def test_one_account_cannot_take_all_calls(path: Path) -> None:
    async with world(path, grpc_account_calls=3) as it, connected(path) as stub:
        it.accounts.tokens["other"] = Account("bob")
        it.writer.go.clear()
        held = [stub.PushMetrics(push(number, [1]), metadata=TOKEN) for number in range(3)]
        await until(lambda: it.intake.queue_depth == 3)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.PushMetrics(push(4, [1]), metadata=TOKEN)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "retry-after-ms" in dict(caught.value.trailing_metadata() or ())
        call = stub.StreamMetrics(metadata=TOKEN)
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        bobs = stub.PushMetrics(push(5, [1], node="bob"), metadata=(("authorization", "Bearer other"),))
        await until(lambda: it.intake.queue_depth == 4)
        it.writer.go.set()
        assert [(await one).accepted for one in (*held, bobs)] == [1, 1, 1, 1]
        assert (await stub.PushMetrics(push(6, [1]), metadata=TOKEN)).accepted == 1


async def test_more_connections_than_there_may_be_are_refused_and_the_others_go_on(path: Path) -> None:
    port = free_port()
    async with world(path, grpc_port=port, gateway_connections=3) as it:
        channels = [
            aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(5)
        ]
        request = push(1, [1]).SerializeToString()
        # A call that is held open holds its connection open.
        calls = (unary(channel, PUSH)(request, metadata=TOKEN, timeout=5) for channel in channels)
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in found].count(bytes) == 3
        assert {one.code() for one in found if isinstance(one, aio.AioRpcError)} == {grpc.StatusCode.UNAVAILABLE}
        async with connected(path) as stub:  # the socket has connections of its own
            assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN)).accepted == 1
        await asyncio.gather(*(channel.close() for channel in channels))
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await unary(channel, PUSH)(request, metadata=TOKEN, timeout=10, wait_for_ready=True)
        assert len(it.written) == 5


async def test_a_connections_calls_wait_their_turn(path: Path) -> None:
    async with world(path, grpc_streams=10) as it, connected(path) as stub:
        await stub.PushMetrics(push(0, []), metadata=TOKEN)  # the settings have come: gRPC would send more before
        it.writer.go.clear()
        calls = [stub.PushMetrics(push(number, [number]), metadata=TOKEN) for number in range(200)]
        await until(lambda: it.intake.queue_depth == 10)
        await asyncio.sleep(0.2)
        assert it.intake.queue_depth == 10
        it.writer.go.set()
        assert [(await call).batch_id for call in calls] == list(range(200))


async def test_metadata_is_bounded(path: Path) -> None:
    async with world(path) as it, client(path) as channel:
        large = (*TOKEN, ("x", "y" * 60_000))
        assert await code_of(unary(channel, PUSH)(b"", metadata=large)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        many = (*TOKEN, *((f"x{number}", "y") for number in range(5_000)))
        assert await code_of(unary(channel, PUSH)(b"", metadata=many)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert it.written == []


async def test_a_method_that_there_is_not(path: Path) -> None:
    async with world(path), client(path) as channel:
        assert await code_of(unary(channel, "/iot_stream.ingest.v1.Ingest/Nope")(b"")) is grpc.StatusCode.UNIMPLEMENTED


async def test_compressed_messages_are_bounded_by_what_they_inflate_to(path: Path) -> None:
    async with world(path, gateway_body_max_bytes=10_000) as it, connected(path) as stub:
        ack = await stub.PushMetrics(push(1, range(100)), metadata=TOKEN, compression=grpc.Compression.Gzip)
        assert ack.accepted == 100
        bomb = push(1, [1])
        bomb.batch.metrics[0].extra_json = b" " * 1_000_000
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.PushMetrics(bomb, metadata=TOKEN, compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(it.written) == 100


async def test_a_message_that_does_not_come_is_not_awaited_for_ever(path: Path) -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b""

    async with world(path, gateway_idle_seconds=0.3) as it, client(path) as channel:
        pushing: aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(PUSH)
        with pytest.raises(aio.AioRpcError) as caught:
            await pushing(never(), metadata=TOKEN)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert it.written == []


async def test_who_pings_too_often_gets_a_goaway(path: Path) -> None:
    pings = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with world(path), connected(path, pings) as stub:
        call = stub.StreamMetrics(metadata=TOKEN)
        await call.write(batch(1, [1]))
        assert await call.read() is not aio.EOF
        with pytest.raises(aio.AioRpcError) as caught:
            await asyncio.wait_for(call.read(), 10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "many pings" in str(caught.value.details())


async def test_what_one_does_not_read_holds_up_nobody(path: Path) -> None:
    """A window of streams that are not acknowledged, and a quarter of the room, are all that one account has."""
    async with world(path, gateway_buffer_bytes=400_000, grpc_stream_window=64) as it:
        it.accounts.tokens["other"] = Account("bob")
        it.writer.go.clear()
        async with connected(path) as alice, connected(path) as bob:
            greedy = [alice.StreamMetrics(metadata=TOKEN) for _ in range(8)]
            sending = [asyncio.create_task(_pour(call)) for call in greedy]
            await until(lambda: it.intake.queue_depth > 300)
            await asyncio.sleep(0.3)
            assert not it.intake.full
            his = bob.PushMetrics(push(1, range(20), node="bob"), metadata=(("authorization", "Bearer other"),))
            before = it.intake.queue_depth
            await until(lambda: it.intake.queue_depth == before + 20)
            it.writer.go.set()
            assert (await his).accepted == 20
            for task in sending:
                task.cancel()
            await asyncio.wait(sending)


async def _pour(call: aio.StreamStreamCall[MetricBatch, BatchAck]) -> None:
    number = 0
    while True:
        await call.write(batch(number, range(10)))
        number += 1


async def test_bytes_that_are_no_http2_end_their_connection_alone(path: Path) -> None:
    chance = random.Random(13)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    async with world(path) as it, connected(path) as stub:
        for number in range(300):
            junk = chance.randbytes(chance.randrange(200))
            data = junk if number % 2 else preface + junk
            await asyncio.to_thread(_thrown, path, data)
        assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN)).accepted == 1
        assert len(it.written) == 1


def _thrown(path: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(str(path))
        made.sendall(data)
