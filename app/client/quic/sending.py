"""Batches of a client -> the QUIC gateway, by an AckedStream: in order, with what the gateway puts off sent again."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from app.client.pace import Pace
from app.client.quic.sender import QuicSender
from app.client.sent_batch import Acked, Item, SentBatch
from app.errors import IotStreamError, PermanentError, TransientError, WireError
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from app.runtime.interrupt import set_within


class QuicSending:
    """A stream of batches in one event loop, by one sender, which connects again by itself. To be closed."""

    def __init__(self, sender: QuicSender, pace: Pace) -> None:
        self._sender, self._pace = sender, pace
        self._open: dict[int, SentBatch] = {}  # without an ack, by number
        self._put_off: set[asyncio.Task[None]] = set()
        self._acked: deque[Acked] = deque()  # acks that were not looked at yet
        self._ended = False
        self._failure: IotStreamError | None = None
        self._progress = time.monotonic()
        self._changed = asyncio.Event()

    async def put(self, batch: SentBatch) -> None:
        """Send a batch after the batches before it; waits while there is no room. Raises what ended the sending:
        PermanentError, TransientError.
        """
        await self._until(lambda: len(self._open) + len(self._acked) < self._pace.in_flight and not self._put_off)
        if not self._open:
            self._progress = time.monotonic()
        self._open[batch.number] = batch
        await self._send(batch)

    def end(self) -> None:
        """Note that nothing more will be put."""
        self._ended = True
        self._changed.set()

    async def next_ack(self) -> Acked | None:
        """What became of a batch; None: all that was put is acknowledged, and nothing more comes.

        Raises PermanentError when the gateway refuses us or a batch for ever, TransientError after Pace.give_up.
        """
        await self._until(lambda: bool(self._acked) or (self._ended and not self._open))
        self._changed.set()
        return self._acked.popleft() if self._acked else None

    def left(self) -> Sequence[Item]:
        """The items without an ack, in order."""
        return [item for batch in self._open.values() for item in batch.left]

    async def close(self) -> None:
        """End at once; what has no ack by now is the caller's again."""
        for task in self._put_off:
            task.cancel()
        await asyncio.gather(*self._put_off, return_exceptions=True)

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Raises what ended the sending."""
        while self._failure is None and not ready():
            self._changed.clear()
            if not await set_within(self._changed, self._patience()):
                self._failure = TransientError(f"no ack within {self._pace.give_up:g} s")
        if self._failure is not None and not self._acked:
            raise self._failure

    def _patience(self) -> float | None:
        if self._pace.give_up is None or not self._open:
            return None
        return max(0.0, self._progress + self._pace.give_up - time.monotonic())

    async def _send(self, batch: SentBatch) -> None:
        answer = await self._sender.send(cast("MetricBatch", batch.request))
        answer.add_done_callback(partial(self._answered, batch))

    def _answered(self, batch: SentBatch, answer: "asyncio.Future[BatchAck]") -> None:
        if answer.cancelled():
            return
        error = answer.exception()
        if isinstance(error, IotStreamError):
            self._failure = error
        elif answer.result().HasField("refusal"):
            said = answer.result().refusal
            self._failure = PermanentError(f"the gateway refuses a batch: {said.reason}: {said.error}")
        else:
            self._settle(batch, answer.result())
        self._changed.set()

    def _settle(self, batch: SentBatch, ack: BatchAck) -> None:
        try:
            acked = batch.settle(ack)
        except WireError as error:
            self._failure = error
            return
        if ack.accepted or acked is not None:
            self._progress = time.monotonic()
        if acked is None:
            task = asyncio.create_task(self._again(batch))
            self._put_off.add(task)
            task.add_done_callback(self._went_again)
        else:
            del self._open[batch.number]
            self._acked.append(acked)

    async def _again(self, batch: SentBatch) -> None:
        """What the gateway takes another time; nothing new goes out before."""
        await asyncio.sleep(self._pace.first_pause)
        await self._send(batch)

    def _went_again(self, task: "asyncio.Task[None]") -> None:
        self._put_off.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, IotStreamError):
            self._failure = error
        self._changed.set()
