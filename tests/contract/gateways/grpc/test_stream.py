"""StreamMetrics on a real UNIX socket: an ack a batch after Kafka's, in order, bounded; and every way it may end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import grpc
import pytest
from grpc import aio

from app.core.ingress.limits import IngressLimits
from app.gateways.gateway_metrics import CONNECTIONS
from app.ports import Refusal
from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from tests.contract.gateways.grpc.world import TIME_US, TOKEN, batch, client, connected, next_bytes, opened, world
from tests.waiting import until

STREAM = "/iot_stream.ingest.v1.Ingest/StreamMetrics"
Call = aio.StreamStreamCall[MetricBatch, BatchAck]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


async def send(call: Call, numbers: Iterable[int], size: int = 2) -> None:
    for number in numbers:
        await call.write(batch(number, range(number * size, number * size + size)))


async def acks(call: Call, count: int) -> list[int]:
    found = []
    for _ in range(count):
        ack = await asyncio.wait_for(call.read(), 10)
        assert isinstance(ack, BatchAck), ack
        found.append(ack.batch_id)
    return found


async def ending(call: Call) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await asyncio.wait_for(_to_its_end(call), 10)
    return caught.value


async def _to_its_end(call: Call) -> None:
    while await call.read() is not aio.EOF:
        pass


async def test_an_ack_a_batch_in_order_each_after_kafkas_and_an_end_when_the_sender_is_done(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        call = stub.StreamMetrics(metadata=TOKEN)
        it.writer.go.clear()
        await send(call, range(10))
        await until(lambda: it.intake.queue_depth == 20)
        first = asyncio.create_task(call.read())
        await asyncio.sleep(0.1)
        assert not first.done()
        it.writer.go.set()
        await call.done_writing()
        ack = await first
        assert isinstance(ack, BatchAck)
        assert (ack.batch_id, ack.accepted) == (0, 2)
        assert await acks(call, 9) == list(range(1, 10))
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert [float(value.partition(b'"value":')[2].partition(b",")[0]) for value in it.written] == list(range(20))


async def test_events_stream_too(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        call = stub.StreamEvents(metadata=TOKEN)
        await call.write(EventBatch(batch_id=3, events=[Event(user_id="alice", device_id="d", time_us=TIME_US)]))
        await call.write(
            EventBatch(batch_id=4, events=[Event(user_id="alice", device_id="d", time_us=TIME_US, sequence_id=1)])
        )
        first, second = await call.read(), await call.read()
        assert isinstance(first, BatchAck)
        assert isinstance(second, BatchAck)
        assert (first.batch_id, first.accepted, first.rejected[0].reason) == (3, 0, "missing_field")
        assert (second.batch_id, second.accepted) == (4, 1)
        assert len(it.written) == 1


async def test_a_sender_ahead_of_kafka_is_held_back_by_the_window(path: Path) -> None:
    async with world(path, grpc_stream_window=5) as it, connected(path) as stub:
        it.writer.go.clear()
        call = stub.StreamMetrics(metadata=TOKEN)
        sending = asyncio.create_task(send(call, range(2000), size=20))
        await until(lambda: it.intake.queue_depth == 100)
        await asyncio.sleep(0.3)
        assert it.intake.queue_depth == 100, "five batches of 20"
        assert not sending.done(), "gRPC's flow control holds back what does not fit into the stream's own window"
        it.writer.go.set()
        assert await acks(call, 2000) == list(range(2000))
        await sending
        assert len(it.written) == 40_000


async def test_streams_wait_while_the_process_has_no_room_and_go_on(path: Path) -> None:
    async with world(path, gateway_buffer_bytes=50_000) as it, connected(path) as stub:
        it.writer.go.clear()
        call = stub.StreamMetrics(metadata=TOKEN)
        await send(call, range(200), size=10)
        await until(lambda: it.intake.queue_depth >= 40)
        await asyncio.sleep(0.2)
        assert it.intake.queue_depth <= 100
        it.writer.go.set()
        assert await acks(call, 200) == list(range(200))


async def test_bytes_that_are_no_batch_end_the_stream_once_what_was_before_has_its_ack(path: Path) -> None:
    async with world(path) as it, client(path) as channel:
        it.writer.go.clear()
        call = opened(channel, STREAM, TOKEN)
        for number in range(3):
            await call.write(batch(number, [number]).SerializeToString())
        await call.write(b"\xff\xff\xff")
        await until(lambda: it.intake.queue_depth == 3)
        it.writer.go.set()
        found = [BatchAck.FromString(await next_bytes(call)).batch_id for _ in range(3)]
        assert found == [0, 1, 2]
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "MetricBatch" in str(caught.value.details())


async def test_a_message_too_large_ends_its_stream_alone(path: Path) -> None:
    async with world(path, gateway_body_max_bytes=5_000) as it, connected(path) as stub:
        other = stub.StreamMetrics(metadata=TOKEN)
        await send(other, [1])
        assert await acks(other, 1) == [1]
        call = stub.StreamMetrics(metadata=TOKEN)
        await send(call, [1])
        assert await acks(call, 1) == [1]
        await call.write(batch(2, range(1000)))
        error = await ending(call)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in str(error.details())
        await send(other, [2])
        assert await acks(other, 1) == [2]
        assert len(it.written) == 6


async def test_a_stop_ends_streams_with_all_that_was_read_acknowledged(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        it.writer.go.clear()
        call = stub.StreamMetrics(metadata=TOKEN)
        await send(call, range(4))
        await until(lambda: it.intake.queue_depth == 8)
        stopping = asyncio.create_task(it.gateway.stop(5.0))
        await asyncio.sleep(0.1)
        it.writer.go.set()
        assert await acks(call, 4) == [0, 1, 2, 3]
        error = await ending(call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "stops" in str(error.details())
        await asyncio.wait_for(stopping, 5)


async def test_a_stop_while_kafka_is_away_is_over_in_its_time_and_acknowledges_nothing(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        it.writer.go.clear()
        call = stub.StreamMetrics(metadata=TOKEN)
        await send(call, range(4))
        await until(lambda: it.intake.queue_depth == 8)
        await asyncio.wait_for(it.gateway.stop(1.0), 3)
        assert not it.gateway.ready()["grpc_socket"]
        await ending(call)


async def test_a_client_that_goes_away_leaves_what_it_sent_to_be_written_and_no_trace_of_an_error(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with world(path) as it:
        for how in ("cancel", "close"):
            it.writer.go.clear()
            before = len(it.written)
            async with connected(path) as stub:
                call = stub.StreamMetrics(metadata=TOKEN)
                await send(call, range(4))
                await until(lambda: it.intake.queue_depth == 8)
                if how == "cancel":
                    call.cancel()
            it.writer.go.set()
            await until(lambda before=before: len(it.written) == before + 8)  # type: ignore[misc]
            async with connected(path) as stub:
                again = stub.StreamMetrics(metadata=TOKEN)
                await send(again, [9])
                assert await acks(again, 1) == [9]
                await again.done_writing()
                assert await again.read() is aio.EOF
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_credentials_are_looked_at_again(path: Path) -> None:
    async with world(path, auth_cache_seconds=0.2) as it, connected(path) as stub:
        call = stub.StreamMetrics(metadata=TOKEN)
        await send(call, [1])
        assert await acks(call, 1) == [1]
        await asyncio.sleep(0.3)
        await send(call, [2])
        assert await acks(call, 1) == [2]
        assert len(it.accounts.asked) >= 2
        it.accounts.tokens["good"] = Refusal.BAD_CREDENTIALS
        await asyncio.sleep(0.3)
        await send(call, [3])
        assert (await ending(call)).code() is grpc.StatusCode.UNAUTHENTICATED
        assert len(it.written) == 4


async def test_who_is_not_known_is_refused_before_anything_is_read(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        call = stub.StreamMetrics()
        assert (await ending(call)).code() is grpc.StatusCode.UNAUTHENTICATED
        assert it.intake.queue_depth == 0


@pytest.mark.parametrize(
    ("settings", "words"), [({"grpc_stream_idle": 1.0}, "too long"), ({"grpc_connection_age": 1.0}, "old enough")]
)
async def test_a_stream_that_is_idle_or_old_is_asked_to_begin_anew(
    path: Path, settings: dict[str, float], words: str
) -> None:
    async with world(path, settings), connected(path) as stub:
        call = stub.StreamMetrics(metadata=TOKEN)
        await send(call, [1])
        assert await acks(call, 1) == [1]
        error = await ending(call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert words in str(error.details())


async def test_a_stream_that_waits_for_kafka_is_not_idle(path: Path) -> None:
    async with world(path, grpc_stream_idle=0.2) as it, connected(path) as stub:
        it.writer.go.clear()
        call = stub.StreamMetrics(metadata=TOKEN)
        await send(call, [1])
        await asyncio.sleep(1.0)
        it.writer.go.set()
        assert await acks(call, 1) == [1]


async def test_a_sender_that_reads_no_acks_is_held_and_then_ended(path: Path) -> None:
    narrow = [("grpc.http2.bdp_probe", 0)]  # else gRPC takes megabytes of acks that nobody reads
    async with world(path, grpc_stream_idle=0.5, grpc_stream_window=20) as it, connected(path, narrow) as stub:
        call = stub.StreamMetrics(metadata=TOKEN)
        bad = batch(1, range(200))
        for metric in bad.metrics:
            metric.sensor_id = "/" * 100  # large acks: a refusal for each
        for _ in range(10):
            await call.write(bad)
        streams = CONNECTIONS.labels("grpc")._value.get
        assert streams() == 1
        await until(lambda: streams() == 0)
        error = await ending(call)
        assert error.code() is grpc.StatusCode.CANCELLED
        assert "not read" in str(error.details())
        assert it.written == []


async def test_over_a_limit_the_items_are_refused_in_the_ack(path: Path) -> None:
    limits = IngressLimits(user_messages=1.0, burst=3.0)
    async with world(path, limits=limits) as it, connected(path) as stub:
        call = stub.StreamMetrics(metadata=TOKEN)
        await call.write(batch(1, range(5)))
        await call.write(batch(2, range(5)))
        first, second = await call.read(), await call.read()
        assert isinstance(first, BatchAck)
        assert isinstance(second, BatchAck)
        assert (first.accepted, second.accepted) == (3, 0)
        assert {one.reason for ack in (first, second) for one in ack.rejected} == {"rate_limited"}
        assert len(it.written) == 3


async def test_a_hundred_streams_each_have_their_own_acks(path: Path) -> None:
    async def one(stub_path: Path, number: int) -> None:
        async with connected(stub_path) as stub:
            call = stub.StreamMetrics(batches(number), metadata=TOKEN)
            assert [ack.batch_id async for ack in call] == [number * 10 + at for at in range(5)]

    async def batches(number: int) -> AsyncIterator[MetricBatch]:
        for at in range(5):
            yield batch(number * 10 + at, range(3))

    async with world(path) as it:
        await asyncio.gather(*(one(path, number) for number in range(100)))
        assert len(it.written) == 1500
