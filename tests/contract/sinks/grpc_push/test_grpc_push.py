"""The sink grpc on a real gRPC server: the messages, and the outcome of each behaviour of the receiver."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from app.errors import SettingsError
from app.protobuf.events_pb2 import Event
from app.protobuf.metrics_pb2 import BatchAck, Metric
from app.settings import Settings
from app.sinks.grpc_push.sink import GrpcPushSink
from app.sinks.port import Flushed, Held, SinkMisconfigured, SinkUnavailable
from app.sinks.pushing.lane import TRIES
from tests.receivers.grpc_receiver import Acks, Ends, GrpcReceiver, Item, grpc_receiver
from tests.receivers.readings import pushed
from tests.secured import Certificates
from tests.waiting import until


@asynccontextmanager
async def pushing(receiver: GrpcReceiver, **settings: Any) -> AsyncIterator[GrpcPushSink]:
    """An open sink."""
    given = {"grpc_push_target": receiver.target, "grpc_push_timeout": 5.0, "grpc_push_batch": 4, **settings}
    sink = GrpcPushSink("push-1", Settings(**given))
    try:
        await sink.open()
        receiver.metadata.clear()
        yield sink
    finally:
        await sink.close()


@pytest.fixture
async def receiver() -> AsyncIterator[GrpcReceiver]:
    async with grpc_receiver() as made:
        yield made


async def written(sink: GrpcPushSink) -> int:
    """The number of records that a flush has written."""
    before = sink.held.records
    done = await sink.flush()
    return before - sink.held.records - len(done.refused)


def numbers(items: Iterable[Item]) -> list[int]:
    return [item.sequence_id for item in items]


async def attempt(sink: GrpcPushSink) -> Flushed:
    """The result of one flush."""
    try:
        return await sink.flush()
    except SinkUnavailable as failure:
        return failure.so_far


async def test_readings_are_pushed_in_batches_as_events_and_metrics(receiver: GrpcReceiver) -> None:
    async with pushing(receiver, grpc_push_token="t-1") as sink:
        assert sink.linger == 0.2
        sink.add([pushed(n, f"d{n % 3}", node=n % 3 == 2) for n in range(3)])
        assert not sink.due
        sink.add([pushed(n, f"d{n % 3}", node=n % 3 == 2) for n in range(3, 15)])
        assert sink.due
        assert await sink.flush() == ({0: 15}, [])
        assert sink.held == Held()
    assert sorted(receiver.sizes) == [1, 2, 4, 4, 4]
    events = [item for item in receiver.taken if isinstance(item, Event)]
    metrics = [item for item in receiver.taken if isinstance(item, Metric)]
    assert numbers(events) == [n for n in range(15) if n % 3 != 2]
    assert numbers(metrics) == [2, 5, 8, 11, 14]
    assert (events[1].user_id, events[1].device_id) == ("u", "d1")
    assert (metrics[0].node_id, metrics[0].sensor_id) == ("u", "d2")
    assert [one["authorization"] for one in receiver.metadata] == ["Bearer t-1"] * 2


async def test_a_receiver_of_events_alone_is_given_nodes_as_events(receiver: GrpcReceiver) -> None:
    receiver.metrics = False
    with pytest.raises(SinkUnavailable, match="UNIMPLEMENTED") as caught:
        async with pushing(receiver):
            pass
    assert "IOT_GRPC_PUSH_NODES=events" in caught.value.cure
    async with pushing(receiver, grpc_push_nodes="events") as sink:
        sink.add([pushed(0), pushed(1, "press", user="plant", node=True, value=4.25)])
        assert await written(sink) == 2
        assert sink.shown([pushed(1, "press", user="plant", node=True)])[0].startswith(
            'user_id: "plant" device_id: "press"'
        )
    (_, node) = receiver.taken
    assert isinstance(node, Event)
    assert (node.user_id, node.device_id, node.extra_json) == ("plant", "press", b'{"value":4.25}')


async def test_a_batch_is_sent_only_while_the_sink_may_write(receiver: GrpcReceiver) -> None:
    async with pushing(receiver, grpc_push_window=1) as sink:
        sink.add([pushed(n) for n in range(20)])
        assert await sink.flush(lambda: len(receiver.sizes) < 2) == ({0: 8}, [])
        assert receiver.sizes == [4, 4]
        assert sink.held.records == 12
        assert await sink.flush() == ({0: 20}, [])
    assert numbers(receiver.taken) == list(range(20))


async def test_as_many_batches_as_the_window_await_their_ack(receiver: GrpcReceiver) -> None:
    async with pushing(receiver, grpc_push_window=3, grpc_push_batch=2) as sink:
        receiver.held.clear()
        sink.add([pushed(n) for n in range(20)])
        flushing = asyncio.ensure_future(sink.flush())
        await until(lambda: len(receiver.sizes) == 3)
        await asyncio.sleep(0.1)
        assert receiver.unacked == len(receiver.sizes) == 3
        receiver.held.set()
        assert await flushing == ({0: 20}, [])
    assert receiver.unacked == 3
    assert numbers(receiver.taken) == list(range(20))


async def test_what_has_no_ack_is_pushed_again_before_the_rest(receiver: GrpcReceiver) -> None:
    receiver.script.extend([Acks(), Ends(taken=True), Ends()])
    async with pushing(receiver, grpc_push_window=1) as sink:
        sink.add([pushed(n, partition=n // 5) for n in range(10)])
        with pytest.raises(SinkUnavailable, match="UNAVAILABLE: as the script says") as caught:
            await sink.flush()
        assert caught.value.so_far == ({0: 4, 1: 5}, [])
        with pytest.raises(SinkUnavailable):
            await sink.flush()
        sink.add([pushed(10, partition=1)])
        assert await sink.flush() == ({0: 5, 1: 11}, [])
    assert numbers(receiver.taken) == [0, 1, 2, 3, 4, 5, 6, 7, *range(4, 11)]


async def test_items_that_are_rejected_are_refused_alone(receiver: GrpcReceiver) -> None:
    receiver.script.append(Acks({1: "bad_id", 3: "wrong_type"}))
    async with pushing(receiver) as sink:
        sink.add([pushed(n) for n in range(6)])
        done = await sink.flush()
    words = "the receiver rejects it: {}: as the script says"
    assert [(one.offset, why) for one, why in done.refused] == [
        (1, words.format("bad_id")),
        (3, words.format("wrong_type")),
    ]
    assert sink.held.records == 0


async def test_items_over_a_limit_come_again_before_the_others(receiver: GrpcReceiver) -> None:
    receiver.script.append(Acks({1: "rate_limited", 2: "bad_id", 3: "rate_limited"}))
    async with pushing(receiver, grpc_push_window=1) as sink:
        sink.add([pushed(n) for n in range(6)])
        with pytest.raises(SinkUnavailable, match="later") as caught:
            await sink.flush()
        assert sink.held.records == 4
        assert [one.offset for one, _ in caught.value.so_far.refused] == [2]
        assert await written(sink) == 4
    assert numbers(receiver.taken) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    "refusal",
    [
        Ends(StatusCode.INVALID_ARGUMENT),
        Ends(StatusCode.OUT_OF_RANGE),
        Acks(refusal=("malformed", 0)),
        Ends(StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)"),
    ],
    ids=str,
)
async def test_a_refused_batch_is_halved_and_the_record_at_fault_refused(
    receiver: GrpcReceiver, refusal: Ends | Acks
) -> None:
    receiver.judge = lambda items: refusal if 5 in numbers(items) else None
    async with pushing(receiver, grpc_push_batch=8) as sink:
        sink.add([pushed(n, f"d{n % 4}") for n in range(20)])
        done = await sink.flush()
    assert [one.offset for one, _ in done.refused] == [5]
    assert sink.held.records == 0
    for device in range(4):
        first = dict.fromkeys(one.sequence_id for one in receiver.taken if one.device_id == f"d{device}")  # type: ignore[union-attr]
        assert list(first) == [n for n in range(device, 20, 4) if n != 5]


async def test_a_message_of_too_many_bytes_is_halved(receiver: GrpcReceiver) -> None:
    """gRPC itself refuses the message, and does not report which message it was."""
    await receiver.stop()
    receiver.max_bytes = 1000
    await receiver.start()
    async with pushing(receiver, grpc_push_batch=50) as sink:
        sink.add([*(pushed(n, text="x" * 30) for n in range(60)), pushed(60, text="y" * 2000), pushed(61)])
        done = await sink.flush()
    assert [one.offset for one, _ in done.refused] == [60]
    assert "larger than max" in done.refused[0][1]
    assert sorted(set(numbers(receiver.taken))) == [n for n in range(62) if n != 60]


@pytest.mark.parametrize(
    "status",
    [
        *("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"),
        *("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "FAILED_PRECONDITION", "NOT_FOUND"),
    ],
)
async def test_failures_without_a_faulty_reading_are_retried(receiver: GrpcReceiver, status: str) -> None:
    async with pushing(receiver) as sink:
        receiver.judge = lambda _: Ends(StatusCode[status], retry_after_ms=1500)
        sink.add([pushed(0)])
        for _ in range(2 * TRIES):
            with pytest.raises(SinkUnavailable, match=f"{status}: as the script says") as caught:
                await sink.flush()
        assert caught.value.so_far == ({0: 0}, [])
        assert caught.value.retry_after == 1.5
        receiver.judge = lambda _: None
        assert await written(sink) == 1


async def test_a_batch_that_is_put_off_as_a_whole_comes_again(receiver: GrpcReceiver) -> None:
    receiver.script.append(Acks(refusal=("busy", 700)))
    async with pushing(receiver) as sink:
        sink.add([pushed(n) for n in range(3)])
        with pytest.raises(SinkUnavailable, match="busy") as caught:
            await sink.flush()
        assert caught.value.retry_after == 0.7
        assert await sink.flush() == ({0: 3}, [])
    assert receiver.sizes == [3, 3]


async def test_a_record_over_which_the_receiver_raises_holds_up_its_own_device_alone(receiver: GrpcReceiver) -> None:
    receiver.judge = lambda items: Acks(raises=ValueError("no such thing")) if 3 in numbers(items) else None
    refused: list[int] = []
    async with pushing(receiver) as sink:
        sink.add([pushed(n, f"d{n % 4}") for n in range(12)])
        for number in range(12, 42):
            done = await attempt(sink)
            refused += [one.offset for one, _ in done.refused]
            sink.add([pushed(number, "other")])
        await sink.flush()
    assert refused == [3]
    assert sorted(set(numbers(receiver.taken))) == [n for n in range(42) if n != 3]
    first = dict.fromkeys(one.sequence_id for one in receiver.taken if one.device_id == "d3")  # type: ignore[union-attr]
    assert list(first) == [7, 11]


@pytest.mark.parametrize(
    ("ack", "words"),
    [
        (BatchAck(batch_id=77), "an ack of batch 77, which was not sent"),
        (
            BatchAck(batch_id=1),
            "an ack of 0 accepted and 0 rejected items for 3: each item has to be accepted or rejected",
        ),
        (BatchAck(batch_id=1, accepted=4), "an ack of 4 accepted and 0 rejected items for 3"),
        (BatchAck(batch_id=1, accepted=2, rejected=[{"index": 3}]), "an ack of 2 accepted and 1 rejected"),
        (BatchAck(batch_id=1, accepted=1, rejected=[{"index": 1}, {"index": 1}]), "an ack of 1 accepted"),
    ],
)
async def test_an_invalid_ack_is_reported(receiver: GrpcReceiver, ack: BatchAck, words: str) -> None:
    receiver.script.append(Acks(instead=ack))
    async with pushing(receiver) as sink:
        sink.add([pushed(n) for n in range(3)])
        with pytest.raises(SinkUnavailable, match=f"invalid answer of the receiver: {words}"):
            await sink.flush()
        assert await written(sink) == 3


async def test_a_receiver_that_is_silent_is_asked_anew(receiver: GrpcReceiver) -> None:
    async with pushing(receiver, grpc_push_timeout=0.8) as sink:
        sink.add([pushed(n) for n in range(3)])
        receiver.held.clear()
        with pytest.raises(SinkUnavailable, match=r"no ack within 0\.8 s"):
            await sink.flush()
        receiver.held.set()
        assert await written(sink) == 3


async def test_after_silence_the_batches_in_flight_are_sent_one_by_one(receiver: GrpcReceiver) -> None:
    async with pushing(receiver, grpc_push_timeout=0.8) as sink:
        sink.add([pushed(n) for n in range(12)])
        receiver.held.clear()
        assert (await attempt(sink)).upto == {0: 0}
        assert receiver.unacked == 3
        receiver.unacked = 0
        receiver.held.set()
        assert await written(sink) == 12
        assert receiver.unacked == 1


async def test_a_receiver_that_ends_a_stream_without_an_ack_is_asked_anew(receiver: GrpcReceiver) -> None:
    receiver.script.append(Acks(silent=True))
    async with pushing(receiver) as sink:
        sink.add([pushed(n) for n in range(3)])
        with pytest.raises(SinkUnavailable, match="has ended the stream before its last ack"):
            await sink.flush()
        assert await written(sink) == 3


async def test_a_receiver_that_is_gone_is_unavailable_until_it_is_back(receiver: GrpcReceiver) -> None:
    async with pushing(receiver) as sink:
        sink.add([pushed(n) for n in range(10)])
        await receiver.stop()
        for call in (sink.flush, sink.open):
            with pytest.raises(SinkUnavailable, match="UNAVAILABLE"):
                await call()
        await receiver.start()
        await sink.open()
        assert await written(sink) == 10
    assert numbers(receiver.taken) == list(range(10))


async def test_a_flush_that_is_cancelled_holds_what_has_no_ack(receiver: GrpcReceiver) -> None:
    async with pushing(receiver) as sink:
        receiver.held.clear()
        sink.add([pushed(n) for n in range(10)])
        flushing = asyncio.ensure_future(sink.flush())
        await until(lambda: len(receiver.sizes) == 3)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        receiver.held.set()
        assert sink.held.records == 10
        assert await sink.flush() == ({0: 10}, [])
    assert numbers(receiver.taken)[-10:] == list(range(10))


async def test_what_is_revoked_is_not_pushed(receiver: GrpcReceiver) -> None:
    receiver.script.append(Ends())
    async with pushing(receiver) as sink:
        sink.add([pushed(n, f"d{n % 2}", partition=n % 2) for n in range(6)])
        await attempt(sink)
        await sink.revoked([0])
        assert sink.held.records == 3
        assert await sink.flush() == ({1: 6}, [])
    assert numbers(receiver.taken) == [1, 3, 5]


async def test_rejections_of_every_item_of_many_batches_stop_no_stream(receiver: GrpcReceiver) -> None:
    """The acks are as long as the batches: neither side may wait for the other side to read first."""
    receiver.judge = lambda items: Acks(dict.fromkeys(range(len(items)), "bad_id" * 30))
    refused = 0
    async with pushing(receiver, grpc_push_batch=500, grpc_push_window=8) as sink:
        sink.add([pushed(n) for n in range(8000)])
        while sink.held.records:
            refused += len((await sink.flush()).refused)
    assert refused == 8000


async def test_certificates_and_credentials_are_checked(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    pair = made.server_key.read_bytes(), made.server.read_bytes()
    server = grpc.ssl_server_credentials([pair], made.ca.read_bytes(), require_client_auth=True)
    own = {"grpc_push_certificate_file": made.client, "grpc_push_key_file": made.client_key}
    token = tmp_path / "token"
    token.write_text("t-2\n")
    async with grpc_receiver(credentials=server) as receiver:
        async with pushing(receiver, grpc_push_ca_file=made.ca, grpc_push_token_file=token, **own) as sink:
            sink.add([pushed(0)])
            assert await written(sink) == 1
            assert receiver.metadata[0]["authorization"] == "Bearer t-2"
            token.unlink()
            sink.add([pushed(1)])
            with pytest.raises(SinkUnavailable, match="look at IOT_GRPC_PUSH_TOKEN_FILE"):
                await sink.flush()
        for files in ({"grpc_push_ca_file": made.strange_ca, **own}, {"grpc_push_ca_file": made.ca}):
            with pytest.raises(SinkUnavailable, match=r"certificate|CERTIFICATE"):
                async with pushing(receiver, **files):
                    pass
    assert numbers(receiver.taken) == [0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "IOT_GRPC_PUSH_TARGET is not set"),
        ({"grpc_push_target": "http://receiver:5000"}, "is no receiver"),
        ({"grpc_push_target": "receiver"}, "it names no port"),
        ({"grpc_push_target": "r.example:1", "grpc_push_token": "t-3"}, "could read the token: give the CA"),
        ({"grpc_push_target": "localhost:1", "sink_kinds": ("telemetry", "status")}, "IOT_SINK_KINDS: grpc"),
    ],
)
async def test_settings_that_cannot_be_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SinkMisconfigured, match=words) as caught:
        await GrpcPushSink("push", Settings(**settings)).open()
    assert "t-3" not in str(caught.value)
    assert isinstance(caught.value, SettingsError)
