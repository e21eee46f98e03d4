"""grpc.health.v1 and reflection as their own clients speak them, GetHealth and Flush: what may be asked, by whom."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from app.gateways.grpc import public_services
from app.gateways.grpc.ingest_service import SERVICE
from app.local.servers.common import free_port
from app.protobuf.ingest_pb2 import FlushRequest, GetHealthRequest, GetHealthResponse
from app.runtime.interrupt import Interrupt
from tests.contract.gateways.grpc.world import TOKEN, client, connected, ingest, next_bytes, opened, push, unary, world
from tests.waiting import until

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SOON = 20.0  # seconds; a stop that waits for an open call waits for all of its time, which is twice as long


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_check_says_whether_batches_reach_kafka(path: Path, service: str) -> None:
    async with world(path) as it, client(path) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING
        it.writer.available = False
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == NOT_SERVING


async def test_a_service_that_there_is_not(path: Path) -> None:
    async with world(path), client(path) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watching = stub.Watch(health_pb2.HealthCheckRequest(service="other"))
        assert (await watching.read()).status == UNKNOWN
        watching.cancel()


async def test_watch_tells_of_each_change_and_ends_with_the_gateway(path: Path) -> None:
    async with world(path) as it, client(path) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == SERVING
        it.writer.available = False
        assert (await asyncio.wait_for(watching.read(), 5)).status == NOT_SERVING
        it.writer.available = True
        assert (await asyncio.wait_for(watching.read(), 5)).status == SERVING
        stopping = asyncio.create_task(it.gateway.stop(2 * SOON))
        assert (await asyncio.wait_for(watching.read(), SOON)).status == NOT_SERVING
        assert await watching.read() is aio.EOF
        async with asyncio.timeout(SOON):
            await stopping


async def test_a_watcher_hears_of_a_stop_that_comes_while_it_hears_of_something_else(path: Path) -> None:
    stop = asyncio.Event()

    def serving() -> bool:
        asyncio.get_running_loop().call_soon(stop.set)  # before the write of this answer returns
        return True

    server = aio.server()
    server.add_generic_rpc_handlers(public_services.PublicServices(SERVICE, serving, Interrupt(stop)).handlers())
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        async with client(path) as channel:
            watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert [answer.status async for answer in watching] == [SERVING, NOT_SERVING]
    finally:
        await server.stop(None)


async def test_watchers_are_few_and_leave_room_for_probes(path: Path) -> None:
    async with world(path) as it, client(path) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watching = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(public_services.WATCHERS)]
        outcomes = await asyncio.gather(*(one.read() for one in watching), return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, aio.AioRpcError)]
        assert {one.code() for one in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert len(outcomes) - len(refused) == public_services.WATCHERS // 2
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING, "while they watch"
        for one in watching:
            one.cancel()
        async with connected(path) as ingest:
            assert (await ingest.PushMetrics(push(1, [1]), metadata=TOKEN)).accepted == 1
        assert len(it.written) == 1


async def test_bytes_that_are_no_request_of_these_services(path: Path) -> None:
    async with world(path), client(path) as channel:
        for method in ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
            with pytest.raises(aio.AioRpcError) as caught:
                await unary(channel, method)(b"\xff\xff")
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_reflection_describes_the_whole_service_to_a_client_that_knows_nothing(path: Path) -> None:
    async with world(path):
        methods = await asyncio.to_thread(_reflected, path)
    assert methods == {"GetHealth", "PushMetrics", "PushEvents", "StreamMetrics", "StreamEvents", "Flush"}


def _reflected(path: Path) -> set[str]:
    with grpc.insecure_channel(f"unix:{path}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) >= {SERVICE, "grpc.health.v1.Health"}
        assert database.FindFileContainingSymbol(f"{SERVICE}.PushMetrics").name == "ingest.proto"
        service = DescriptorPool(database).FindServiceByName(SERVICE)
        message = service.methods_by_name["PushMetrics"].input_type.fields_by_name["batch"].message_type
        assert message is not None
        assert [field.name for field in message.fields] == ["batch_id", "metrics"]
        return set(service.methods_by_name)


async def test_reflection_has_both_names_and_an_open_one_holds_up_no_stop(path: Path) -> None:
    async with world(path) as it, client(path) as channel:
        for name in public_services.REFLECTION:
            call = opened(channel, f"/{name}/ServerReflectionInfo")
            await call.write(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
            answer = reflection_pb2.ServerReflectionResponse.FromString(await next_bytes(call))
            assert SERVICE in [one.name for one in answer.list_services_response.service]
        assert reflection_pb2_grpc
        async with asyncio.timeout(SOON):
            await it.gateway.stop(2 * SOON)


async def test_get_health_has_all_that_a_sidecar_is_asked(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        found = await stub.GetHealth(GetHealthRequest())
        assert found.status == GetHealthResponse.STATUS_SERVING
        assert not found.HasField("last_flush_time_us")
        assert not found.HasField("average_flush_seconds")
        assert not found.HasField("mqtt_connected"), "no broker is named"
        assert found.version
        before = time.time()
        await stub.PushMetrics(push(1, range(3)), metadata=TOKEN)
        found = await stub.GetHealth(GetHealthRequest())
        assert (found.queue_depth, found.last_flush_records, found.kafka_connected) == (0, 3, True)
        assert before <= found.last_flush_time_us / 1e6 <= time.time()
        assert 0 < found.average_flush_seconds < 5
        it.writer.go.clear()
        waiting = stub.PushMetrics(push(1, range(7)), metadata=TOKEN)
        await until(lambda: it.intake.queue_depth == 7)
        it.writer.available = False
        found = await stub.GetHealth(GetHealthRequest())
        assert (found.queue_depth, found.status) == (7, GetHealthResponse.STATUS_NOT_SERVING)
        assert not found.kafka_connected
        it.writer.go.set()
        await waiting


async def test_get_health_names_the_last_error(path: Path) -> None:
    from app.runtime.last_error import LAST_ERROR

    before = time.time()
    LAST_ERROR(None, "warning", {"event": "bridge_kafka_retry", "error": "the broker is away"})
    async with world(path), connected(path) as stub:
        found = await stub.GetHealth(GetHealthRequest())
    assert found.last_error == "bridge_kafka_retry: the broker is away"
    assert before - 0.001 <= found.last_error_time_us / 1e6 <= time.time()


async def test_flush_is_answered_once_what_was_taken_before_is_in_kafka(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        assert (await stub.Flush(FlushRequest())).flushed == 0
        it.writer.go.clear()
        held = [stub.PushMetrics(push(number, range(4)), metadata=TOKEN) for number in range(3)]
        await until(lambda: it.intake.queue_depth == 12)
        flushing = stub.Flush(FlushRequest())
        await asyncio.sleep(0.1)
        assert not flushing.done()
        it.writer.go.set()
        assert (await flushing).flushed == 12
        assert len(it.written) == 12
        assert [(await call).accepted for call in held] == [4, 4, 4]
        found = await stub.GetHealth(GetHealthRequest())
        assert found.last_flush_records in (4, 8, 12), "a flush of nothing is none"


async def test_over_tcp_health_and_flush_are_for_who_is_known(path: Path) -> None:
    port = free_port()
    async with world(path, grpc_port=port), aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = ingest(channel)
        for call in (stub.GetHealth(GetHealthRequest()), stub.Flush(FlushRequest())):
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await stub.GetHealth(GetHealthRequest(), metadata=TOKEN)).version
        assert (await stub.Flush(FlushRequest(), metadata=TOKEN)).flushed == 0
        checked = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert checked.status == SERVING
