"""Streams that end while batches are sent and acks are written, on a real gRPC server: the status of each."""

import asyncio
from collections import Counter
from typing import Any

import grpc
from grpc import StatusCode, aio

from app.protobuf.events_pb2 import EventBatch
from app.protobuf.receiver_pb2_grpc import ReceiverStub
from app.runtime.rpc.failed_call import lost_status, status_of
from app.settings import Settings
from app.sinks.grpc_push.messages import event_maker
from app.sinks.grpc_push.push_stream import PushStream
from app.sinks.grpc_push.receiver import verdict
from app.sinks.pushing.lane import PushBatch, PushLane
from tests.receivers.grpc_receiver import Acks, GrpcReceiver, Item, grpc_receiver
from tests.receivers.readings import pushed

STREAMS, BATCHES, WINDOW = 600, 6, 4
EVENT = event_maker(Settings().telemetry_schema)


def judge(items: list[Item]) -> Acks | None:
    """The receiver raises on one batch, while it writes the acks of batches before it and others come in."""
    return Acks(raises=ValueError("no such thing")) if any(item.sequence_id == 2 * 4 for item in items) else None


def message_of(batch: PushBatch) -> EventBatch:
    batch.message = made = EventBatch(batch_id=batch.number, events=map(EVENT, batch.records))
    return made


async def ended(stub: Any) -> grpc.RpcError:
    """The error that one stream ends with."""
    lane = PushLane(4, 1 << 20)
    for number in range(4 * BATCHES):
        lane.add(pushed(number, "d1"))
    call = stub.StreamEvents()
    try:
        await PushStream(call, lane, message_of, WINDOW, 20).run()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the stream has not failed")


async def count(receiver: GrpcReceiver) -> Counter[str]:
    found: Counter[str] = Counter()
    async with aio.insecure_channel(receiver.target) as channel:
        stub: Any = ReceiverStub(channel)
        for _ in range(STREAMS):
            error = await ended(stub)
            if lost_status(error):
                found["lost"] += 1
                assert verdict(error) is None
            else:
                found["raised"] += 1
                assert status_of(error) is StatusCode.UNKNOWN, error
            receiver.taken.clear()
    return found


async def test_a_status_that_is_lost_within_a_write_is_no_verdict_on_a_batch() -> None:
    """gRPC's client says INTERNAL of its own where a stream ends within a write; and each stream does end."""
    async with grpc_receiver(judge=judge) as receiver:
        found = await asyncio.wait_for(count(receiver), 300)
    assert found["raised"] > 0
    assert found.total() == STREAMS
