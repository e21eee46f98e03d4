"""One stream of batches to a gateway: in order, on a new stream after each failure, until each batch has its ack."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

import grpc
from grpc import aio

from app.client.failures import given_up, may_pass, pause_after, refused
from app.client.pace import Pace
from app.client.send_window import SendWindow
from app.client.sent_batch import LATER, Acked, Item, SentBatch
from app.errors import TransientError
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch

Failed = Callable[[int, float, BaseException], None]  # failures in a row, seconds until the next try, the latest
Call = aio.StreamStreamCall[EventBatch | MetricBatch, BatchAck]
Open = Callable[[SentBatch], Call]  # a new stream, for what the batch is of

ENDED = TransientError("the gateway has ended the stream")
PUT_OFF = TransientError(f"the gateway takes items of a batch later ({LATER})")


class Sending:
    """A stream of batches in one event loop. To be closed, or its tasks go on."""

    def __init__(self, open_call: Open, pace: Pace, failed: Failed) -> None:
        self._open, self._pace, self._failed = open_call, pace, failed
        self._window = SendWindow()
        self._acked: deque[Acked] = deque()  # acks that were not looked at yet
        self._ended = False  # nothing more will be put
        self._failures = 0
        self._held_until = 0.0  # nothing is sent before
        self._progress = time.monotonic()  # the last ack, or the first batch that waits for an ack
        self._changed = asyncio.Event()
        self._running = asyncio.create_task(self._run(), name="sending")
        self._running.add_done_callback(lambda _: self._changed.set())

    @property
    def full(self) -> bool:
        """Whether `put` would wait: until an ack comes, and is looked at."""
        return len(self._window) + len(self._acked) >= self._pace.in_flight

    async def put(self, batch: SentBatch) -> None:
        """Send a batch after the batches before it; waits while the stream is full. Raises what ended the sending:
        NotAckedError, GatewayRefusedError.
        """
        await self._until(lambda: not self.full or self._running.done())
        self._raise()
        if not len(self._window):
            self._progress = time.monotonic()
        self._window.put(batch)
        self._changed.set()

    def end(self) -> None:
        """Note that nothing more will be put."""
        self._ended = True
        self._changed.set()

    async def next_ack(self) -> Acked | None:
        """What became of a batch; None: all that was put is acknowledged, and nothing more comes.

        Raises NotAckedError and GatewayRefusedError, which have the items without an ack.
        """
        await self._until(lambda: self._acked or self._running.done())
        if not self._acked:
            self._raise()
            return None
        self._changed.set()
        return self._acked.popleft()

    async def close(self) -> None:
        """End at once; what has no ack by now is the caller's again."""
        self._running.cancel()
        await asyncio.wait({self._running})
        if not self._running.cancelled():
            self._running.exception()  # the error was reported, or no caller waits for it

    def left(self) -> list[Item]:
        """The items without an ack, in order."""
        return list(self._window.left())

    async def _until(self, ready: Callable[[], object]) -> None:
        while not ready():
            self._changed.clear()
            await self._changed.wait()

    def _raise(self) -> None:
        if self._running.done():
            self._running.result()

    async def _run(self) -> None:
        while True:
            await self._until(lambda: self._window.waiting or self._ended)
            if not len(self._window):
                return
            await self._attempt()

    async def _attempt(self) -> None:
        """Run one stream and, unless all is acknowledged, the pause after it."""
        failure: BaseException = ENDED
        try:
            await self._stream()
        except (grpc.RpcError, TransientError) as error:
            failure = error
        self._window.again()
        if len(self._window):
            await asyncio.sleep(self._pause(failure))

    @property
    def _impatient(self) -> bool:
        patience = self._pace.give_up
        return patience is not None and time.monotonic() - self._progress > patience

    def _pause(self, failure: BaseException) -> float:
        """Seconds until the next try. Raises when no further try is allowed."""
        if not may_pass(failure):
            raise refused(failure, self.left())
        if self._impatient:
            raise given_up(failure, self._pace.give_up or 0, self.left())
        self._failures += 1
        pause = pause_after(failure, self._failures, self._pace)
        self._failed(self._failures, pause, failure)
        return pause

    async def _stream(self) -> None:
        """Run until the gateway ends the stream, or the last batch is acknowledged. Raises RpcError, TransientError."""
        first = self._window.next(time.monotonic())
        assert first is not None
        call = self._open(first)
        writing = asyncio.create_task(self._write(call, first), name="sending-write")
        try:
            await self._read(call)
        finally:
            call.cancel()
            writing.cancel()
            await asyncio.wait({writing})
        if not writing.cancelled():
            writing.result()  # raises what is no failure of the call

    async def _write(self, call: Call, batch: SentBatch | None) -> None:
        try:
            while batch is not None:
                await call.write(batch.request)
                batch = await self._following()
            await call.done_writing()
        except (grpc.RpcError, aio.InternalError, asyncio.InvalidStateError):
            pass  # the stream is over: its reader gets the error

    async def _following(self) -> SentBatch | None:
        """The next batch; None: all are acknowledged, and no other will come."""
        await self._until(lambda: self._window.waiting or (self._ended and not len(self._window)))
        await asyncio.sleep(self._held_until - time.monotonic())
        return self._window.next(time.monotonic())

    async def _read(self, call: Call) -> None:
        while (ack := await self._ack(call)) is not None:
            acked = self._window.settle(ack)
            if ack.accepted or acked is not None:
                self._failures, self._progress = 0, time.monotonic()
            if acked is None and self._impatient:
                raise PUT_OFF
            if acked is None:
                self._held_until = time.monotonic() + self._pause(PUT_OFF)
            else:
                self._acked.append(acked)
            self._changed.set()

    async def _ack(self, call: Call) -> BatchAck | None:
        """The next ack; None: the gateway has ended the stream. Raises TransientError when the ack takes too long."""
        reading = asyncio.ensure_future(call.read())
        while not reading.done():
            since = self._window.sent_since()
            patience = self._pace.answer if since is None else since + self._pace.answer - time.monotonic()
            if patience <= 0:
                raise TransientError(f"no ack within {self._pace.answer:g} s")
            await asyncio.wait({reading}, timeout=patience)
        found = reading.result()
        return found if isinstance(found, BatchAck) else None
