"""Readings to a receiver of proto/receiver.proto, or to the gRPC gateway of another iot-stream; acked, in order.

Two lanes, events of users and metrics of nodes, each with its own stream for the time of a flush. Batches without an
ack when a stream ends are sent again on the next stream, before all later batches.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, assert_never

import grpc
from google.protobuf.text_format import MessageToString

from app.core.model.records import Kind
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import MetricBatch
from app.runtime.rpc.failed_call import lost_status
from app.settings import Settings
from app.sinks.grpc_push.messages import event_maker, metric_maker
from app.sinks.grpc_push.push_stream import REFUSALS, MessageOf, PushStream, RefusedWhole
from app.sinks.grpc_push.receiver import PushReceiver, unavailable, verdict
from app.sinks.port import Flushed, Held, MayWrite, SinkMisconfigured, SinkUnavailable, always
from app.sinks.pushing.answer import BatchRefused, FailedOver
from app.sinks.pushing.lane import PushBatch, PushLane
from app.sinks.pushing.lanes import PushLanes
from app.sinks.pushing.way import is_of_node
from app.sinks.record import SinkRecord
from app.sinks.sink_metrics import WRITTEN_BYTES

BATCH_BYTES = 1 << 20  # of payloads in one message; a larger payload is sent alone


class _Push(NamedTuple):
    """A lane, and the method that its batches are sent with."""

    lane: PushLane
    method: str
    message_of: MessageOf


class GrpcPushSink:
    """A destination of the port app.sinks.port.Sink."""

    kind = "grpc"

    def __init__(self, name: str, settings: Settings) -> None:
        """Nothing is connected. Raises SinkMisconfigured, and PermanentError when protobuf has only its Python
        implementation.
        """
        if set(settings.sink_kinds) - {Kind.TELEMETRY}:
            raise SinkMisconfigured("IOT_SINK_KINDS: grpc pushes readings, which telemetry alone has")
        self.name, self._batch = name, settings.grpc_push_batch
        self.linger = settings.grpc_push_flush_ms / 1000
        self._receiver = PushReceiver(settings)
        self._event, self._metric = event_maker(settings.telemetry_schema), metric_maker(settings.telemetry_schema)
        lanes = [PushLane(settings.grpc_push_batch, BATCH_BYTES)]
        self._pushes = [_Push(lanes[0], "StreamEvents", self._events)]
        if settings.grpc_push_nodes == "metrics":
            lanes.append(PushLane(settings.grpc_push_batch, BATCH_BYTES))
            self._pushes.append(_Push(lanes[1], "StreamMetrics", self._metrics))
        self._lane_of = _by_way if len(lanes) == 2 else _all_in_one
        most = 4 * settings.grpc_push_window * settings.grpc_push_batch
        self._lanes = PushLanes(lanes, self._lane_of, most, settings.sink_buffer_bytes)

    async def open(self) -> None:
        """Return when the receiver accepts each method that is used. Raises SinkUnavailable, SinkMisconfigured."""
        await self._receiver.open()
        for push in self._pushes:
            await self._receiver.ask(push.method)

    async def resume(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """Nothing: a receiver keeps no offsets."""
        return {}

    async def begin_anew(self, partitions: Collection[int]) -> None:
        """Nothing: a receiver keeps no offsets."""

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Buffer records."""
        self._lanes.add(records)

    @property
    def held(self) -> Held:
        """The readings without an ack."""
        return self._lanes.held

    @property
    def due(self) -> bool:
        """Whether there is a full batch."""
        return self._lanes.held.records >= self._batch

    async def flush(self, may_write: MayWrite = always) -> Flushed:
        """Push the buffer. Raises SinkUnavailable."""
        self._lanes.begin(may_write)
        await asyncio.gather(*(self._push_all(push, may_write) for push in self._pushes if len(push.lane)))
        return self._lanes.finish()

    async def revoked(self, partitions: Collection[int]) -> None:
        """Drop the buffered records of these partitions."""
        self._lanes.drop(partitions)

    async def close(self) -> None:
        """End all calls and close the connection."""
        await self._receiver.close()

    def shown(self, records: Sequence[SinkRecord]) -> Sequence[str]:
        """The messages in protobuf's text format, one per line."""
        messages: list[Any] = [(self._metric if self._lane_of(one) else self._event)(one) for one in records]
        return [MessageToString(one, as_one_line=True, as_utf8=True) for one in messages]

    async def _push_all(self, push: _Push, may_write: MayWrite) -> None:
        """Push until the lane is empty, the flush has ended, or REFUSALS records were refused."""
        lane = push.lane
        while not self._lanes.ended and len(lane.refused) < REFUSALS and len(lane):
            try:
                stream = self._receiver.stream(push.method, lane, push.message_of)
                await self._run(stream, lane, may_write)
            except SinkUnavailable as failure:
                self._lanes.fail(failure)

    async def _run(self, stream: PushStream, lane: PushLane, may_write: MayWrite) -> None:
        """Raises SinkUnavailable."""
        try:
            if refused := await stream.run(may_write):
                _refuse(lane, refused)
        except grpc.RpcError as error:
            self._judge(lane, stream.under_way, error)
        finally:
            if stream.silent:  # a receiver may stand still over one batch, and fail on it when it is sent alone
                lane.single_out(len(stream.under_way))
            WRITTEN_BYTES.labels(self.name).inc(stream.bytes)

    def _judge(self, lane: PushLane, under_way: Sequence[PushBatch], error: grpc.RpcError) -> None:
        """Handle a failed stream, which a batch in flight may have caused."""
        said = verdict(error)
        if len(under_way) > 1 and (said is not None or lost_status(error)):
            lane.single_out(len(under_way))
        elif said is None or not under_way:
            self._lanes.fail(unavailable(error))
        elif isinstance(said, BatchRefused):
            lane.refuse(under_way[0], said.why)
        elif isinstance(said, FailedOver):
            if not lane.fail(under_way[0], said.why):
                self._lanes.fail(unavailable(error), in_doubt=True)
        else:
            assert_never(said)

    def _events(self, batch: PushBatch) -> EventBatch:
        if batch.message is None:
            batch.message = EventBatch(batch_id=batch.number, events=map(self._event, batch.records))
        made: EventBatch = batch.message
        return made

    def _metrics(self, batch: PushBatch) -> MetricBatch:
        if batch.message is None:
            batch.message = MetricBatch(batch_id=batch.number, metrics=map(self._metric, batch.records))
        made: MetricBatch = batch.message
        return made


def _refuse(lane: PushLane, refused: RefusedWhole) -> None:
    """Raises SinkUnavailable when the receiver would take the batch later."""
    if refused.retry_after:
        raise SinkUnavailable(refused.why, retry_after=refused.retry_after)
    lane.refuse(refused.batch, refused.why)


def _by_way(record: SinkRecord) -> int:
    return 1 if is_of_node(record) else 0


def _all_in_one(_: SinkRecord) -> int:
    return 0
