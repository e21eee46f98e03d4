"""Unary calls on a real UNIX socket: the ack after Kafka's, each refusal with its status, and whom it lets in."""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from app.core.ingress.limits import IngressLimits
from app.ports import Account, Refusal
from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.ingest_pb2 import PushEventsRequest, PushMetricsRequest
from tests.contract.gateways.grpc.world import TIME_US, TOKEN, client, connected, push, unary, world
from tests.waiting import until

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PUSH = "/iot_stream.ingest.v1.Ingest/PushMetrics"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


async def status_of(call: Awaitable[object]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_the_ack_goes_out_only_after_kafka_has_all_of_it(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        it.writer.go.clear()
        call = stub.PushMetrics(push(7, [1, 2, 3]), metadata=TOKEN)
        await until(lambda: it.intake.queue_depth == 3)
        await asyncio.sleep(0.1)
        assert not call.done()
        it.writer.go.set()
        ack = await call
        assert (ack.batch_id, ack.accepted, list(ack.rejected)) == (7, 3, [])
        assert len(it.written) == 3


async def test_records_are_those_of_mqtt_with_the_gateway_and_the_callers_trace(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        await stub.PushMetrics(push(1, [21.5]), metadata=(*TOKEN, ("traceparent", PARENT)))
        event = Event(user_id="alice", device_id="d1", sequence_id=5, time_us=TIME_US, temperature=20.5, battery=80)
        await stub.PushEvents(PushEventsRequest(batch=EventBatch(events=[event])), metadata=TOKEN)
        metric, event_record = it.writer.written
    assert metric.key == b"alice"
    headers = dict(metric.headers)
    assert headers["mqtt_topic"] == b"iot/alice/s1/telemetry"
    assert (headers["kind"], headers["gateway"], headers["traceparent"]) == (b"telemetry", b"grpc", PARENT.encode())
    assert metric.headers[-1][0] == "traceparent"
    assert (event_record.key, dict(event_record.headers)["mqtt_topic"]) == (
        b"alice/d1",
        b"users/alice/devices/d1/telemetry",
    )
    assert "traceparent" not in dict(event_record.headers)


async def test_a_bad_item_alone_is_refused(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        request = push(9, [1, 2, 3, 4])
        request.batch.metrics[1].sensor_id = "../x"
        request.batch.metrics[2].value = float("nan")
        ack = await stub.PushMetrics(request, metadata=TOKEN)
        assert ack.accepted == 2
        assert [(one.index, one.reason) for one in ack.rejected] == [(1, "bad_id"), (2, "out_of_range")]
        assert all(one.error for one in ack.rejected)
        assert len(it.written) == 2


async def test_what_kafka_refuses_for_ever_is_named_by_its_place_in_the_batch(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        request = push(1, [1, 2, 3, 4])
        await stub.PushMetrics(request, metadata=TOKEN)
        it.writer.refused = {it.written[2]}
        request.batch.metrics[0].sensor_id = "a/b"
        ack = await stub.PushMetrics(request, metadata=TOKEN)
    assert ack.accepted == 2
    assert [(one.index, one.reason) for one in ack.rejected] == [(0, "bad_id"), (2, "payload_too_large")]


async def test_a_batch_of_another_users_is_denied_and_one_that_is_partly_so_taken_in_part(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        denied = await status_of(stub.PushMetrics(push(1, [1, 2], node="bob"), metadata=TOKEN))
        assert denied.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "alice" in str(denied.details())
        assert "iot/bob/s1/telemetry" in str(denied.details())
        mixed = push(1, [1, 2])
        mixed.batch.metrics[0].node_id = "bob"
        ack = await stub.PushMetrics(mixed, metadata=TOKEN)
        assert (ack.accepted, [one.reason for one in ack.rejected]) == (1, ["not_allowed"])
        assert len(it.written) == 1


@pytest.mark.parametrize(
    ("metadata", "asked"),
    [
        ((("authorization", "Bearer good"),), ("token", "good", "unix")),
        ((("authorization", "bearer  good "),), ("token", "good", "unix")),
        ((("authorization", f"Basic {b64encode(b'alice:secret').decode()}"),), ("password", "alice", "secret", "unix")),
    ],
)
async def test_who_is_known_is_let_in(path: Path, metadata: tuple[tuple[str, str]], asked: tuple[str, ...]) -> None:
    async with world(path) as it, connected(path) as stub:
        assert (await stub.PushMetrics(push(1, [1]), metadata=metadata)).accepted == 1
        assert it.accounts.asked == [asked]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ((), "no credentials"),
        ((("authorization", "Bearer bad"),), "no account"),
        ((("authorization", f"Basic {b64encode(b'alice:wrong').decode()}"),), "no account"),
        ((("authorization", "Basic !!!"),), "base64"),
        ((("authorization", "Digest x"),), "no scheme"),
        ((("authorization", "Bearer good"), ("authorization", "Bearer other")), "twice"),
    ],
)
async def test_who_is_not_learns_what_would_be_right_and_nothing_is_read(
    path: Path, metadata: tuple[tuple[str, str], ...], words: str
) -> None:
    async with world(path) as it, connected(path) as stub:
        calls: tuple[Awaitable[object], ...] = (
            stub.PushMetrics(push(1, [1]), metadata=metadata),
            stub.PushEvents(PushEventsRequest()),
        )
        for call, why in zip(calls, (words, "no credentials"), strict=True):
            refused = await status_of(call)
            assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
            assert why in str(refused.details())
            assert "good" not in str(refused.details())
            assert "wrong" not in str(refused.details())
        assert it.intake.queue_depth == 0
        assert it.written == []


async def test_nobody_has_the_account_of_nobody_where_it_is_set(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        it.accounts.nobody = Account("alice")
        assert (await stub.PushMetrics(push(1, [1]))).accepted == 1
        assert it.accounts.asked == [("anonymous", "unix")]


async def test_over_tcp_nobody_is_asked_for_the_account_of_nobody(path: Path) -> None:
    from app.local.servers.common import free_port

    port = free_port()
    async with world(path, grpc_port=port) as it, aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        it.accounts.nobody = Account("alice")
        refused = await status_of(unary(channel, PUSH)(push(1, [1]).SerializeToString()))
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
        assert it.accounts.asked == []
        await unary(channel, PUSH)(push(1, [1]).SerializeToString(), metadata=TOKEN)
        assert it.accounts.asked == [("token", "good", "127.0.0.1")]


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal.SLOWED_DOWN, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Refusal.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_who_is_to_wait_learns_how_long_in_every_form(
    path: Path, refusal: Refusal, code: grpc.StatusCode
) -> None:
    async with world(path) as it, connected(path) as stub:
        it.accounts.tokens["good"] = refusal
        error = await status_of(stub.PushMetrics(push(1, [1]), metadata=TOKEN))
    assert error.code() is code
    trailing = dict(error.trailing_metadata() or ())
    seconds = int(trailing["retry-after-ms"]) / 1000
    assert 1 <= seconds <= 60
    assert trailing["grpc-retry-pushback-ms"] == trailing["retry-after-ms"]
    status = Status.FromString(trailing["grpc-status-details-bin"])
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert (status.code, status.message) == (code.value[0], error.details())
    assert retry.retry_delay.ToMilliseconds() == 1000 * seconds


async def test_accounts_that_do_not_answer_are_not_awaited_for_ever(path: Path) -> None:
    async with world(path, gateway_header_seconds=0.3) as it, connected(path) as stub:
        it.accounts.answers.clear()
        error = await status_of(stub.PushMetrics(push(1, [1]), metadata=TOKEN))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "accounts" in str(error.details())
        it.accounts.answers.set()
        assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN)).accepted == 1


async def test_over_a_limit_the_rest_is_refused_and_once_nothing_is_left_the_call(path: Path) -> None:
    limits = IngressLimits(user_messages=1.0, burst=3.0)
    async with world(path, limits=limits) as it, connected(path) as stub:
        ack = await stub.PushMetrics(push(1, [1, 2, 3, 4, 5]), metadata=TOKEN)
        assert ack.accepted == 3
        assert [(one.index, one.reason) for one in ack.rejected] == [(3, "rate_limited"), (4, "rate_limited")]
        refused = await status_of(stub.PushMetrics(push(2, [6, 7]), metadata=TOKEN))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 0 < int(dict(refused.trailing_metadata() or ())["retry-after-ms"]) <= 3000
        assert len(it.written) == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a\xff\xff\xff\xff\x0f", "cut short"),
        (b"\x0a\x05ab", "cut short"),
        (b"\x0a\x03\xff\xff\xff", "MetricBatch"),
        (b"\x1a\x01a", "field 3"),
        (b"\x0a\x80", "cut short"),
    ],
)
async def test_bytes_that_are_no_request_are_an_invalid_argument(path: Path, data: bytes, words: str) -> None:
    async with world(path) as it, client(path) as channel:
        refused = await status_of(unary(channel, PUSH)(data, metadata=TOKEN))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert words in str(refused.details())
        assert it.written == []


async def test_too_many_items_and_too_large_a_message_are_distinguished(path: Path) -> None:
    async with (
        world(path, gateway_batch_max_items=10, gateway_body_max_bytes=10_000) as it,
        connected(path) as stub,
    ):
        many = await status_of(stub.PushMetrics(push(1, range(11)), metadata=TOKEN))
        assert many.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "10 items" in str(many.details())
        large = await status_of(stub.PushMetrics(push(1, range(1000)), metadata=TOKEN))
        assert large.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in str(large.details())
        assert it.written == []
        assert (await stub.PushMetrics(push(1, range(10)), metadata=TOKEN)).accepted == 10


async def test_an_empty_batch_is_acknowledged(path: Path) -> None:
    async with world(path), connected(path) as stub:
        ack = await stub.PushMetrics(PushMetricsRequest(), metadata=TOKEN)
        assert (ack.accepted, len(ack.rejected)) == (0, 0)


async def test_force_flush_waits_for_what_others_sent_before(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        it.writer.go.clear()
        others = stub.PushMetrics(push(1, range(100)), metadata=TOKEN)
        await until(lambda: it.intake.queue_depth == 100)
        forced = stub.PushMetrics(push(2, [1], force_flush=True), metadata=TOKEN)
        await until(lambda: it.intake.queue_depth == 101)
        assert not forced.done()
        it.writer.go.set()
        assert (await forced).accepted == 1
        assert len(it.written) == 101
        assert (await others).accepted == 100


async def test_a_call_that_is_given_up_takes_nothing_back_and_harms_nobody(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        it.writer.go.clear()
        given_up = stub.PushMetrics(push(1, [1]), metadata=TOKEN)
        other = stub.PushMetrics(push(2, [2]), metadata=TOKEN)
        await until(lambda: it.intake.queue_depth == 2)
        given_up.cancel()
        it.writer.go.set()
        assert (await other).accepted == 1
        await until(lambda: len(it.written) == 2)


async def test_when_there_is_no_room_a_call_waits_and_then_learns_when_to_try_again(path: Path) -> None:
    async with world(path, gateway_buffer_bytes=20_000, grpc_answer_seconds=4.0) as it, connected(path) as stub:
        it.writer.go.clear()
        held = stub.PushMetrics(push(1, range(100)), metadata=TOKEN)
        await until(lambda: it.intake.full)
        refused = await status_of(stub.PushMetrics(push(2, [1]), metadata=TOKEN))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert "Kafka is away" in str(refused.details())
        assert "retry-after-ms" in dict(refused.trailing_metadata() or ())
        waiting = stub.PushMetrics(push(3, [1]), metadata=TOKEN)
        await asyncio.sleep(0.1)
        it.writer.go.set()
        assert (await waiting).accepted == 1
        assert (await held).accepted == 100
        assert len(it.written) == 101


async def test_kafkas_ack_that_does_not_come_is_no_answer_for_ever(path: Path) -> None:
    async with world(path, grpc_answer_seconds=0.3) as it, connected(path) as stub:
        it.writer.go.clear()
        refused = await status_of(stub.PushMetrics(push(1, [1]), metadata=TOKEN))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert "not acknowledged" in str(refused.details())
        it.writer.go.set()
        assert (await stub.PushMetrics(push(1, [1]), metadata=TOKEN)).accepted == 1


async def test_one_account_does_not_take_all_the_room(path: Path) -> None:
    async with world(path, gateway_buffer_bytes=100_000, grpc_answer_seconds=3.0) as it, connected(path) as stub:
        it.accounts.tokens["other"] = Account("bob")
        it.writer.go.clear()
        held = stub.PushMetrics(push(1, range(150)), metadata=TOKEN)
        await until(lambda: it.intake.queue_depth == 150)
        refused = await status_of(stub.PushMetrics(push(2, [1]), metadata=TOKEN))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "this account" in str(refused.details())
        bobs = stub.PushMetrics(push(3, [1], node="bob"), metadata=(("authorization", "Bearer other"),))
        await until(lambda: it.intake.queue_depth == 151)
        it.writer.go.set()
        assert ((await held).accepted, (await bobs).accepted) == (150, 1)


async def test_refused_items_become_dead_letters_where_that_is_set(path: Path) -> None:
    async with world(path, gateway_dead_letter_rejected=True) as it, connected(path) as stub:
        request = push(1, [1, 2])
        request.batch.metrics[0].sensor_id = "a/b"
        await stub.PushMetrics(request, metadata=TOKEN)
        (dead,) = it.writer.dead
    assert dict(dead.headers)["reason"] == b"bad_id"
    assert len(it.written) == 1


async def test_a_stop_answers_what_is_in_flight_and_takes_nothing_new(path: Path) -> None:
    async with world(path) as it, connected(path) as stub:
        it.writer.go.clear()
        flying = stub.PushMetrics(push(1, [1]), metadata=TOKEN)
        await until(lambda: it.intake.queue_depth == 1)
        stopping = asyncio.create_task(it.gateway.stop(5.0))
        await asyncio.sleep(0.1)
        async with connected(path) as late:
            refused = await status_of(late.PushMetrics(push(2, [2]), metadata=TOKEN))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        it.writer.go.set()
        assert (await flying).accepted == 1
        await stopping
        assert not it.gateway.ready()["grpc_socket"]
