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
    """The stream ends with a status: before the batch is taken or, `taken`, after it, without its ack."""

    status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    detail: str = "as the script says"
    taken: bool = False
    retry_after_ms: int | None = None


@dataclass
class Acks:
    """All but some items are taken, or the ack says something else."""

    rejected: dict[int, str] = field(default_factory=dict)  # place -> reason
    refusal: tuple[str, int] | None = None  # reason and retry_after_ms of the whole batch
    instead: BatchAck | None = None
    silent: bool = False  # no ack, and the stream goes on
    raises: Exception | None = None


Step = Ends | Acks


@dataclass
class GrpcReceiver(ReceiverServicer):
    """`script` is what comes of the batches to come, one each; then `judge` decides, and all else is taken."""

    script: deque[Step] = field(default_factory=deque)
    judge: Callable[[list[Item]], Step | None] = lambda items: None
    taken: list[Item] = field(default_factory=list)  # in the order they were taken, repeats too
    sizes: list[int] = field(default_factory=list)  # items of each batch that came
    metadata: list[dict[str, str]] = field(default_factory=list)  # of each stream
    held: asyncio.Event = field(default_factory=asyncio.Event)  # acks wait while it is not set
    unacked: int = 0  # most batches that came and were not acknowledged
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
        """Listen, on the same port as the last time."""
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
        """Reads ahead of its acks."""
        self.metadata.append({name: str(value) for name, value in context.invocation_metadata()})
        waiting: deque[BatchAck] = deque()
        more = asyncio.Event()
        over = False

        async def acks() -> None:
            while waiting or not over:
                if not waiting:
                    more.clear()
                    await more.wait()
                    continue
                await self.held.wait()
                await context.write(waiting[0])
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
                    break  # nothing that follows on the stream is taken
            over = True
            more.set()
            await acking
        finally:
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
    """One that runs."""
    made = GrpcReceiver(**how)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
