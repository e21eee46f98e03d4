"""One StreamMetrics or StreamEvents: batches in, an ack each once Kafka has its records, in the order of the batches.

    1 wait until there is room: in the window of the stream, of the account, of the process
    2 read one batch, and hand its records to the intake
    3 Kafka has acknowledged all of them
    4 write the ack

1 and 2 are one task, 3 and 4 another. The window (IOT_GRPC_STREAM_WINDOW) is what may be between them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import grpc
from grpc import aio

from app.errors import TransientError
from app.gateways.gateway_metrics import CONNECTIONS
from app.gateways.grpc.ack_window import AckWindow
from app.gateways.grpc.refusal import NAME, CallRefusal, Context, next_message
from app.gateways.grpc.taking import BatchForm, Taking
from app.gateways.intake import Intake
from app.ports import Account
from app.runtime.interrupt import Interrupt

STOPS = CallRefusal(
    grpc.StatusCode.UNAVAILABLE, "stopping", "the gateway stops: send what has no ack yet again", retry_after=1.0
)
OLD = CallRefusal(
    grpc.StatusCode.UNAVAILABLE, "too_old", "the stream is old enough: go on with a new one", retry_after=0.0
)
IDLE = CallRefusal(
    grpc.StatusCode.UNAVAILABLE, "idle", "no batch came for too long: go on with a new stream", retry_after=0.0
)
DEAF = CallRefusal(grpc.StatusCode.CANCELLED, "slow", "the acks are not read")
GONE = CallRefusal(grpc.StatusCode.CANCELLED, "gone", "the caller has gone")

_Half = asyncio.Task[CallRefusal | None]
Caller = Callable[[], Awaitable[Account | CallRefusal]]


class StreamLimits(NamedTuple):
    """The limits of each stream; times are seconds."""

    window: int  # batches without their ack
    idle: float
    age: float  # 0: none
    trusted: float  # how long the credentials count before they are looked at again


class BatchStream:
    """One stream, of one call."""

    def __init__(self, context: Context, form: BatchForm, taking: Taking, intake: Intake, limits: StreamLimits) -> None:
        self._context, self._form, self._taking, self._intake = context, form, taking, intake
        self._limits, self._window = limits, AckWindow(limits.window)
        self._began = self._moved = time.monotonic()  # when it last began or ended one of these
        self._asking = self._writing = False  # for a batch of the sender's, an ack of ours
        self._ended: CallRefusal | None = None

    async def run(self, account: Account, caller: Caller, stop: Interrupt) -> CallRefusal | None:
        """Until the sender half-closes and has its last ack (None), or why the stream ends before that.

        `caller` finds the account anew. Once `stop` is set nothing more is read, and what was read is acknowledged.
        """
        reading = asyncio.create_task(self._read(account, caller))
        acking = asyncio.create_task(self._acknowledge())
        watching = asyncio.create_task(self._watch(reading, acking))
        try:
            await stop.first_of(reading, acking)
            reading.cancel()
            await asyncio.wait({reading})
            self._window.close()
            await asyncio.wait({acking})
            return self._why(reading, acking)
        finally:
            for task in (watching, reading, acking):
                task.cancel()
            await asyncio.gather(watching, reading, acking, return_exceptions=True)

    def _why(self, reading: _Half, acking: _Half) -> CallRefusal | None:
        if self._ended:
            return self._ended
        if not acking.cancelled() and (refusal := acking.result()):
            return refusal
        return STOPS if reading.cancelled() else reading.result()

    async def _read(self, account: Account, caller: Caller) -> CallRefusal | None:
        """Steps 1 and 2, until the sender is done (None).

        A read that was begun ends only with the stream: gRPC would lose the batch that the read brings.
        """
        trusted_until = self._began + self._limits.trusted
        while True:
            await self._window.room()
            await self._intake.room(account.user_id)
            self._asking, self._moved = True, time.monotonic()
            data = await next_message(self._context)
            self._asking, self._moved = False, time.monotonic()
            if data is None:
                return None
            if self._moved > trusted_until:
                found = await caller()
                if isinstance(found, CallRefusal):
                    return found
                account, trusted_until = found, self._moved + self._limits.trusted
            taken = self._taking.take(account, self._form, data)
            if isinstance(taken, CallRefusal):
                return taken
            self._window.add(taken)

    async def _acknowledge(self) -> CallRefusal | None:
        """Steps 3 and 4, until the window is closed and empty (None)."""
        while (batch := await self._window.first()) is not None:
            try:
                refused = await batch.written
            except TransientError:
                return STOPS
            self._writing = True
            try:
                await self._context.write(batch.ack(refused))
            except aio.InternalError:
                return GONE
            self._writing = False
            self._window.acknowledged()
            self._moved = time.monotonic()
        return None

    async def _watch(self, reading: _Half, acking: _Half) -> None:
        """End it when it is too old, nothing came for too long, or its acks are not read."""
        idle, age = self._limits.idle, self._limits.age
        while True:
            await asyncio.sleep(min(idle, age or idle) / 4)
            now = time.monotonic()
            if now - self._moved > idle and self._writing:
                self._ended = DEAF
                acking.cancel()
            elif now - self._moved > idle and self._asking and not len(self._window):
                self._ended = IDLE
            elif age and now - self._began > age:
                self._ended = OLD
            if self._ended:  # and then on: what is left to acknowledge may not be read either
                reading.cancel()


class Streams:
    """The streams of one gateway; once `stop` is set they read nothing more, and end with all acknowledged."""

    def __init__(self, taking: Taking, intake: Intake, limits: StreamLimits, stop: Interrupt) -> None:
        self._taking, self._intake, self._limits, self._stop = taking, intake, limits, stop

    async def serve(self, context: Context, form: BatchForm, account: Account, caller: Caller) -> CallRefusal | None:
        """Serve one stream, to its end: None when the sender half-closed and has its last ack, or why it ends before.
        `caller` finds the account anew.
        """
        made = BatchStream(context, form, self._taking, self._intake, self._limits)
        with CONNECTIONS.labels(NAME).track_inprogress():
            return await made.run(account, caller, self._stop)
