"""What is committed: in, acks of batches; out, commits of a prefix, never past an un-acked batch."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP, ConsumerMessage

from app.stream.batches import BatchMessage
from app.stream.delivery import Delivery
from app.stream.in_flight import InFlight

log = structlog.get_logger()

LAST_COMMIT_SECONDS = 2.0  # a stop does not wait longer: what is not committed is done again, and not stored twice


class PrefixConsumer(Delivery):
    """Faust's consumer, which commits an offset once every batch before it has been acked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits, self.logs = self.transport.limits, self.transport.logs
        self.flight = InFlight(self.limits)
        self.last_progress: dict[TP, float] = {}
        self._room = asyncio.Event()
        self._last_commit = False

    def ack(self, message: ConsumerMessage) -> bool:
        """Mark a message as done. Batches leave the flight from its head alone."""
        if not isinstance(message, BatchMessage):
            return bool(super().ack(message))
        message.acked = True
        self._unacked_messages.discard(message)
        self.last_progress[message.tp] = time.monotonic()
        self.flight.acked(message.tp)
        self._room.set()
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        yield from [tp for tp in self.flight.done if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic != self.limits.topic:
            offset: int | None = super()._new_offset(tp)
            return offset
        return self.flight.done.get(tp)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Commit; on refusal nothing is remembered as committed, and the next round tries again."""
        assigned = self.assignment()
        ours = {tp: offset for tp, offset in offsets.items() if tp in assigned and self._still_done(tp, offset)}
        # Signed here: what was done before a take-over is not of the log that was found then.
        signed = {tp: OffsetAndMetadata(offset, self.logs.signature(tp.partition)) for tp, offset in ours.items()}
        if not ours or not await self._commit(signed):
            return False
        self.app.tables.on_commit(ours)
        self._committed_offset.update(ours)
        self.app.monitor.on_tp_commit(ours)
        return True

    def _still_done(self, tp: TP, offset: int) -> bool:
        """False for what was done before a seek: it may be of another log than the one found there."""
        return tp.topic != self.limits.topic or offset <= self.flight.done.get(tp, -1)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic != self.limits.topic:
            await super()._add_gap(tp, offset_from, offset_to)

    async def wait_empty(self) -> None:
        """Let the pipeline finish or give up (bounded by its own time limit), then commit the done prefix."""
        await self.transport.drain()
        self._unacked_messages.clear()
        if not self.app.should_stop:
            await self._commit_now()
        elif not self._last_commit:  # Faust comes here twice when it stops
            self._last_commit = True
            await self._commit_and_leave_it()

    async def _commit_now(self) -> None:
        if self._commit_fut is not None:  # one under way knows nothing of the last acks
            await asyncio.wait({self._commit_fut})
        await self.commit_and_end_transactions()

    async def _commit_and_leave_it(self) -> None:
        committing = asyncio.create_task(self._commit_now())
        await asyncio.wait({committing}, timeout=LAST_COMMIT_SECONDS)
        if not committing.done():
            log.warning("kafka_last_commit_given_up", note="what is done and not committed is done again, and dropped")
            committing.cancel()  # Faust may take that for the end of another's commit, and begin one more
        elif not committing.cancelled():
            committing.result()
