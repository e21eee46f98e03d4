"""A receiver of the sink grpc, of the service Receiver in proto/receiver.proto."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import aio

from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.metrics_pb2 import BatchAck, Metric, MetricBatch
from app.protobuf.receiver_pb2_grpc import ReceiverServicer, add_ReceiverServicer_to_server

Batch = EventBatch | MetricBatch
Item = Event | Metric


@dataclass
class Ends:
    """The stream ends with a status: before the batch is taken or, with `taken`, after that and without an ack."""

    status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    detail: str = "as the script says"
    taken: bool = False
    retry_after_ms: int | None = None


@dataclass
class Acks:
    """An ack: all items except the rejected items are taken, or the ack is invalid."""

    rejected: dict[int, str] = field(default_factory=dict)  # place -> reason
    refusal: tuple[str, int] | None = None  # reason and retry_after_ms of the whole batch
    instead: BatchAck | None = None
    silent: bool = False  # no ack, and the stream stays open
    raises: Exception | None = None


Step = Ends | Acks


@dataclass
class GrpcReceiver(ReceiverServicer):
    """`script` has the outcomes of the next batches; then `judge` decides, and by default a batch is taken."""

    script: deque[Step] = field(default_factory=deque)
    judge: Callable[[list[Item]], Step | None] = lambda items: None
    taken: list[Item] = field(default_factory=list)  # in the order they were taken, repeats too
    sizes: list[int] = field(default_factory=list)  # number of items of each received batch
    metadata: list[dict[str, str]] = field(default_factory=list)  # of each stream
    held: asyncio.Event = field(default_factory=asyncio.Event)  # acks wait while it is not set
    unacked: int = 0  # most batches without an ack at a time
    metrics: bool = True  # whether it has StreamMetrics
    max_bytes: int = 4 << 20
    credentials: grpc.ServerCredentials | None = None
    port: int = 0

    def __post_init__(self) -> None:
        self.held.set()
        self._server: aio.Server | None = None

    @property
    def target(self) -> str:
        return f"localhost:{self.port}"

    async def start(self) -> None:
        """Listen, on the same port after a restart."""
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", self.max_bytes)]
        self._server = aio.server(options=options)
        add_ReceiverServicer_to_server(self, self._server)
        where = f"localhost:{self.port}"
        if self.credentials:
            self.port = self._server.add_secure_port(where, self.credentials)
        else:
            self.port = self._server.add_insecure_port(where)
        await self._server.start()

    async def stop(self) -> None:
        """Break all connections."""
        self.held.set()
        if self._server:
            await self._server.stop(0)
            self._server = None

    async def StreamEvents(self, request_iterator: Any, context: Any) -> None:
        await self._stream(request_iterator, context)

    async def StreamMetrics(self, request_iterator: Any, context: Any) -> None:
        if not self.metrics:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        await self._stream(request_iterator, context)

    async def _stream(self, request_iterator: Any, context: Any) -> None:
        """Reads batches ahead of the acks."""
        self.metadata.append({name: str(value) for name, value in context.invocation_metadata()})
        waiting: deque[BatchAck] = deque()
        more = asyncio.Event()
        over = writing = False

        async def acks() -> None:
            nonlocal writing
            while waiting or not over:
                if not waiting:
                    more.clear()
                    await more.wait()
                    continue
                await self.held.wait()
                writing = True
                await context.write(waiting[0])
                writing = False
                waiting.popleft()

        acking = asyncio.ensure_future(acks())
        try:
            async for batch in request_iterator:
                if (ack := await self._take(batch, context)) is None:
                    continue
                waiting.append(ack)
                self.unacked = max(self.unacked, len(waiting))
                more.set()
                if ack.HasField("refusal"):
                    break  # later batches of the stream are not taken
            over = True
            more.set()
            await acking
        finally:
            if writing:  # within a write gRPC could not send the status, and the stream would never end
                while len(waiting) > 1:
                    waiting.pop()
                over = True
            else:
                acking.cancel()
            await asyncio.gather(acking, return_exceptions=True)

    async def _take(self, batch: Batch, context: Any) -> BatchAck | None:
        items: list[Item] = list(batch.events if isinstance(batch, EventBatch) else batch.metrics)
        self.sizes.append(len(items))
        step = self.script.popleft() if self.script else self.judge(items) or Acks()
        if isinstance(step, Ends):
            if step.taken:
                self.taken += items
            if step.retry_after_ms is not None:
                context.set_trailing_metadata((("retry-after-ms", str(step.retry_after_ms)),))
            await context.abort(step.status, step.detail)
            return None
        if step.raises:
            raise step.raises
        ack = BatchAck(batch_id=batch.batch_id)
        if step.refusal:
            ack.refusal.reason, ack.refusal.retry_after_ms = step.refusal
            return ack
        self.taken += [item for place, item in enumerate(items) if place not in step.rejected]
        ack.accepted = len(items) - len(step.rejected)
        for place, reason in step.rejected.items():
            ack.rejected.add(index=place, reason=reason, error="as the script says")
        return None if step.silent else step.instead or ack


@asynccontextmanager
async def grpc_receiver(**how: Any) -> AsyncIterator[GrpcReceiver]:
    """A running receiver."""
    made = GrpcReceiver(**how)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
