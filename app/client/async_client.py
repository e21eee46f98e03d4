"""A client for asyncio: items in, acks out; each call tries again for as long as its pace allows."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Self, TypeVar, cast

import grpc
from tenacity import RetryCallState, stop_after_delay, stop_never

from app.client.failures import given_up, may_pass, pause_after, refused
from app.client.feeding import Feeder
from app.client.pace import Pace
from app.client.sending import PUT_OFF, Call, Failed, Sending
from app.client.sent_batch import Acked, Item, SentBatch, batches, joined
from app.errors import TransientError
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.ingest_pb2 import (
    FlushRequest,
    GetHealthRequest,
    GetHealthResponse,
    PushEventsRequest,
    PushMetricsRequest,
)
from app.protobuf.ingest_pb2_grpc import IngestStub
from app.protobuf.metrics_pb2 import BatchAck
from app.runtime.protobuf.implementation import require_upb
from app.runtime.retry import log_level, retry
from app.runtime.rpc.channel import ClientCredentials, open_channel
from app.runtime.rpc.failed_call import words

T = TypeVar("T")
log = logging.getLogger("iot_stream.client")  # a library's own: its user decides where the lines go


def log_failure(failures: int, pause: float, error: BaseException) -> None:
    """Log that something is tried again in `pause` seconds, after so many failures in a row (1: the first)."""
    log.log(log_level(failures), "gateway: %s; again in %.1f s (failure %d)", words(error), pause, failures)


class AsyncIngestClient:
    """Speaks to one gateway, from one event loop; to be closed, or used with `async with`."""

    def __init__(
        self,
        target: str,
        credentials: ClientCredentials | None = None,
        pace: Pace | None = None,
        failed: Failed = log_failure,
    ) -> None:
        """`target`: `unix:///path` or `host:port`. `failed` is called before each wait, as `log_failure`. Nothing is
        connected yet. Raises PermanentError as open_channel, and where protobuf runs in Python alone.
        """
        require_upb()
        self._credentials, self._pace, self._failed = credentials or ClientCredentials(), pace or Pace(), failed
        self._channel = open_channel(target, self._credentials)
        self._stub = cast("Any", IngestStub(self._channel))  # its calls are grpc.aio's

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls at once, and the connection."""
        await self._channel.close()

    async def push(self, items: Iterable[Item], force_flush: bool = False) -> Acked:
        """Send items of one kind, in batches one after another; returns once Kafka has each item that is not refused.

        `force_flush`: and all that the gateway had taken before. Raises NotAckedError and GatewayRefusedError, which
        have the items without an ack, and TypeError for items of two kinds.
        """
        answers, waiting = list[Acked](), deque(batches(items, self._pace))
        while waiting:
            acked = await self._push(waiting[0], force_flush, lambda: [item for one in waiting for item in one.left])
            answers.append(acked)
            waiting.popleft()
        return joined(answers)

    async def stream(self, items: AsyncIterable[Item] | Iterable[Item]) -> AsyncGenerator[Acked, None]:
        """Send items of one kind without waiting for each ack; yields the outcome of each batch, once Kafka has it.

        Items are read as fast as acks are looked at. A caller that stops early closes the iterator
        (contextlib.aclosing): what was not yielded by then may be sent or not. Raises as `push`; and what `items`
        raises, once what it gave is acknowledged.
        """
        sending = self.sending()
        feeding = asyncio.create_task(Feeder(sending, self._pace).feed(items))
        try:
            while (acked := await sending.next_ack()) is not None:
                yield acked
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await sending.close()

    def sending(self) -> Sending:
        """A stream by hand, for callers that make batches: `put`, `end`, `next_ack`, `close`. To be called in the
        event loop.
        """
        return Sending(self._open, self._pace, self._failed)

    async def flush(self) -> int:
        """Return once all that the gateway has taken, from any client, is in Kafka: how many records waited. Raises
        NotAckedError and GatewayRefusedError, without items.
        """
        answer = await self._tried(lambda: self._call(self._stub.Flush, FlushRequest()), list)
        return int(answer.flushed)

    async def health(self) -> GetHealthResponse:
        """The gateway's health. Asked once: raises NotAckedError when the gateway cannot be reached now,
        GatewayRefusedError when it refuses the call.
        """
        try:
            return cast("GetHealthResponse", await self._call(self._stub.GetHealth, GetHealthRequest()))
        except grpc.RpcError as error:
            raise (given_up(error, 0) if may_pass(error) else refused(error)) from None

    async def _push(self, batch: SentBatch, force_flush: bool, left: Callable[[], list[Item]]) -> Acked:
        """The outcome of the batch; an ack that cannot be valid is asked for again, as a missing ack is."""

        async def settled() -> Acked:
            acked = batch.settle(await self._pushed(batch, force_flush))
            if acked is None:
                raise PUT_OFF
            return acked

        return await self._tried(settled, left)

    async def _pushed(self, batch: SentBatch, force_flush: bool) -> BatchAck:
        if isinstance(batch.request, EventBatch):
            request = PushEventsRequest(batch=batch.request, force_flush=force_flush)
            return cast("BatchAck", await self._call(self._stub.PushEvents, request))
        return cast(
            "BatchAck",
            await self._call(self._stub.PushMetrics, PushMetricsRequest(batch=batch.request, force_flush=force_flush)),
        )

    async def _call(self, method: Any, request: Any) -> Any:
        return await method(request, timeout=self._pace.answer, metadata=self._credentials.metadata())

    def _open(self, batch: SentBatch) -> Call:
        stub = self._stub
        method = stub.StreamEvents if isinstance(batch.request, EventBatch) else stub.StreamMetrics
        return cast("Call", method(metadata=self._credentials.metadata()))

    async def _tried(self, call: Callable[[], Awaitable[T]], left: Callable[[], list[Item]]) -> T:
        """The answer of `call`, which is tried again while its failure may pass."""

        def pause(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            assert error is not None
            seconds = pause_after(error, state.attempt_number, self._pace)
            self._failed(state.attempt_number, seconds, error)
            return seconds

        patience = self._pace.give_up
        stop = stop_never if patience is None else stop_after_delay(patience)
        try:
            return await retry(call, may_pass, pause, stop=stop)
        except (grpc.RpcError, TransientError) as error:
            raise (given_up(error, patience or 0, left()) if may_pass(error) else refused(error, left())) from None
