"""One stream of batches to a receiver: the batches of a lane are sent in order, and settled by their acks.

At most `window` batches are in flight. A batch that must be sent alone (PushLane.goes_alone) waits until no other batch
is in flight, so that a failure of the stream is known to be caused by this batch.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeAlias

import grpc
from grpc import aio

from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from app.sinks.port import MayWrite, SinkUnavailable, always
from app.sinks.pushing.answer import LATER, said
from app.sinks.pushing.lane import PushBatch, PushLane

BatchMessage: TypeAlias = EventBatch | MetricBatch
PushCall: TypeAlias = aio.StreamStreamCall[Any, BatchAck]
MessageOf: TypeAlias = Callable[[PushBatch], BatchMessage]

REFUSALS = 100  # of one lane, after which no batch is sent until the runner has dead-lettered the refused records


class RefusedWhole(NamedTuple):
    """A batch that the receiver refuses as a whole, in its ack; batches sent after this one count as not taken."""

    batch: PushBatch
    why: str
    retry_after: float  # seconds; 0: the batch would be refused again


class PushStream:
    """One call, for the batches of one lane."""

    def __init__(self, call: PushCall, lane: PushLane, message_of: MessageOf, window: int, seconds: float) -> None:
        """`seconds`: timeout of the next ack."""
        self._call, self._lane, self._message_of = call, lane, message_of
        self._window, self._seconds = window, seconds
        self._sent: dict[int, PushBatch] = {}  # not settled; these are the first batches of the lane
        self._settled = asyncio.Event()
        self._all_sent = False
        self.silent = False  # an ack did not come in time
        self.bytes = 0  # of batches that were taken

    @property
    def under_way(self) -> list[PushBatch]:
        """The batches that were sent and have no ack."""
        return list(self._sent.values())

    async def run(self, may_write: MayWrite = always) -> RefusedWhole | None:
        """Return None when the lane is empty, `may_write` is False or REFUSALS records were refused, and the receiver
        has ended the stream.

        Raises RpcError for a status other than OK, SinkUnavailable for a receiver that sends no ack in time, that
        takes items later, or that sends invalid acks.
        """
        writing = asyncio.create_task(self._write(may_write), name="push-write")
        try:
            while (ack := await self._ack()) is not None:
                if refused := self._settle(ack):
                    return refused
            if self._sent or not self._all_sent:
                raise SinkUnavailable("the receiver has ended the stream before its last ack")
        finally:
            self._call.cancel()
            writing.cancel()
            await asyncio.wait({writing})
        if not writing.cancelled():
            writing.result()  # raises any error other than a failed call
        return None

    async def _write(self, may_write: MayWrite) -> None:
        lane, sent = self._lane, self._sent
        try:
            while may_write() and len(lane.refused) < REFUSALS and (batch := lane.batch(len(sent))) is not None:
                first = next(iter(sent.values()), batch)
                if sent and (len(sent) >= self._window or lane.goes_alone(batch) or lane.goes_alone(first)):
                    self._settled.clear()
                    await self._settled.wait()
                    continue
                sent[batch.number] = batch
                await self._call.write(self._message_of(batch))
            self._all_sent = True
            await self._call.done_writing()
        except (grpc.RpcError, aio.InternalError, asyncio.InvalidStateError):
            pass  # the stream is over: the read raises the reason

    async def _ack(self) -> BatchAck | None:
        """The next ack; None: the receiver has ended the stream."""
        try:
            async with asyncio.timeout(self._seconds):
                found = await self._call.read()
        except TimeoutError:
            self.silent = True
            waits = "no ack" if self._sent else "the receiver does not end an empty stream"
            raise SinkUnavailable(f"{waits} within {self._seconds:g} s") from None
        return found if isinstance(found, BatchAck) else None

    def _settle(self, ack: BatchAck) -> RefusedWhole | None:
        """Raises SinkUnavailable as `run` does."""
        batch = self._sent.get(ack.batch_id)
        if batch is None:
            raise SinkUnavailable(f"invalid answer of the receiver: an ack of batch {ack.batch_id}, which was not sent")
        if ack.HasField("refusal"):
            why = said(f"the receiver refuses a batch: {ack.refusal.reason}: {ack.refusal.error}")
            return RefusedWhole(batch, why, ack.refusal.retry_after_ms / 1000)
        never, later = _rejections(ack, len(batch.records))
        del self._sent[batch.number]
        self._lane.settle(batch, never, later)
        self.bytes += batch.message.ByteSize()
        self._settled.set()
        if later:
            raise SinkUnavailable("the receiver takes some readings later (rate_limited)")
        return None


def _rejections(ack: BatchAck, count: int) -> tuple[Mapping[int, str], Collection[int]]:
    """The rejected items of `count`, with the reason, and the items to send later. Raises SinkUnavailable when the ack
    does not account for each item.
    """
    rejected = {one.index: one for one in ack.rejected}
    if (
        ack.accepted + len(ack.rejected) != count
        or len(rejected) < len(ack.rejected)
        or max(rejected, default=0) >= count
    ):
        what = f"an ack of {ack.accepted} accepted and {len(ack.rejected)} rejected items for {count}"
        raise SinkUnavailable(
            f"invalid answer of the receiver: {what}", cure="each item has to be accepted or rejected"
        )
    never = {
        place: said(f"the receiver rejects it: {one.reason}: {one.error}")
        for place, one in rejected.items()
        if one.reason != LATER
    }
    return never, [place for place, one in rejected.items() if one.reason == LATER]
