"""A real server of the service Ingest that keeps what it takes, and fails when and how a test says."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from app.client.sent_batch import Item, items_of
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.ingest_pb2 import FlushResponse, GetHealthResponse, PushEventsRequest, PushMetricsRequest
from app.protobuf.ingest_pb2_grpc import IngestServicer, add_IngestServicer_to_server
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch


@dataclass
class Fail:
    """End the call: before the batch is taken, or after it, when its ack is lost."""

    status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    detail: str = "as the script says"
    retry_after_ms: int | None = None
    taken: bool = False


@dataclass
class Refuse:
    """Take all but these items."""

    indexes: tuple[int, ...]
    reason: str = "bad_id"


@dataclass
class Silent:
    """Take the batch and say nothing."""


Step = Fail | Refuse | Silent | None


@dataclass
class ScriptedGateway(IngestServicer):
    """`steps` are what becomes of the batches to come, one each; then all are taken."""

    path: Path
    steps: deque[Step] = field(default_factory=deque)
    taken: list[Item] = field(default_factory=list)  # in the order they were taken, repeats too
    metadata: list[dict[str, str]] = field(default_factory=list)  # of each call
    batches: list[int] = field(default_factory=list)  # the number of items of each batch that came
    flushes: int = 0
    never: Callable[[Item], bool] = lambda item: False  # which items are refused whenever they come
    held: threading.Event = field(default_factory=threading.Event)  # acks wait while it is not set
    port: int = 0

    def __post_init__(self) -> None:
        self.held.set()
        self._server: grpc.Server | None = None
        self._lock = threading.Lock()

    @property
    def target(self) -> str:
        return f"unix://{self.path}"

    def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listen on the socket, with credentials on a free port of loopback too."""
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        add_IngestServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.target)
        if credentials:
            self.port = self._server.add_secure_port("localhost:0", credentials)
        self._server.start()

    def stop(self) -> None:
        """Break all connections."""
        self.held.set()
        if self._server:
            self._server.stop(0).wait()
            self._server = None

    def _take(self, batch: EventBatch | MetricBatch, context: Any) -> BatchAck | None:
        """The ack; None: there is none."""
        with self._lock:
            items = items_of(batch)
            step = self.steps.popleft() if self.steps else None
            self.batches.append(len(items))
            if isinstance(step, Fail):
                if step.taken:
                    self.taken += items
                if step.retry_after_ms is not None:
                    context.set_trailing_metadata((("retry-after-ms", str(step.retry_after_ms)),))
                context.abort(step.status, step.detail)
            if isinstance(step, Silent):
                self.taken += items
                return None
            refused, reason = (step.indexes, step.reason) if isinstance(step, Refuse) else ((), "bad_id")
            refused = (*refused, *(index for index, item in enumerate(items) if self.never(item)))
            self.taken += [item for index, item in enumerate(items) if index not in refused]
        self.held.wait(20)
        ack = BatchAck(batch_id=batch.batch_id, accepted=len(items) - len(refused))
        for index in refused:
            ack.rejected.add(index=index, reason=reason, error="as the script says")
        return ack

    def _note(self, context: Any) -> None:
        self.metadata.append({name: str(value) for name, value in context.invocation_metadata()})

    def GetHealth(self, request: Any, context: Any) -> GetHealthResponse:
        self._note(context)
        return GetHealthResponse(status=GetHealthResponse.STATUS_SERVING, queue_depth=3)

    def PushEvents(self, request: PushEventsRequest, context: Any) -> BatchAck | None:
        return self._push(request, context)

    def PushMetrics(self, request: PushMetricsRequest, context: Any) -> BatchAck | None:
        return self._push(request, context)

    def _push(self, request: PushEventsRequest | PushMetricsRequest, context: Any) -> BatchAck | None:
        self._note(context)
        self.flushes += request.force_flush
        ack = self._take(request.batch, context)
        if ack is None:
            time.sleep(1)
            context.abort(grpc.StatusCode.UNAVAILABLE, "nobody waits any more")
        return ack

    def StreamEvents(self, request_iterator: Any, context: Any) -> Iterator[BatchAck]:
        return self._stream(request_iterator, context)

    def StreamMetrics(self, request_iterator: Any, context: Any) -> Iterator[BatchAck]:
        return self._stream(request_iterator, context)

    def _stream(self, request_iterator: Any, context: Any) -> Iterator[BatchAck]:
        self._note(context)
        for batch in request_iterator:
            if (ack := self._take(batch, context)) is not None:
                yield ack

    def Flush(self, request: Any, context: Any) -> FlushResponse:
        self._take(EventBatch(), context)
        return FlushResponse(flushed=len(self.taken))
