"""Stored batches on their way to be closed: in, one batch after another; out, the batches of all partitions together.

A small batch alone would cost Kafka as much as all of them. After a batch that is not closed, no later batch of its
epoch is: offsets move in order.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from app.core.batch.batch import Batch
from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput
from app.errors import TransientError
from app.ports import Seconds

# Stored batches are closed this long after the first, at once when one has alerts or all batches have so many rows.
# Rows are visible before; offsets are committed once a second. 640 small batches a second cost 10 closings,
# and the closings of batches with alerts.
CLOSE_SECONDS = 0.1
CLOSE_ROWS = 1000
# A partition of which so many bytes of alerts are stored and not closed waits: while Kafka stands still PostgreSQL may
# not, and the alerts of the next batch would be the next megabytes.
UNCLOSED_MAX = 8 << 20

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class StoredBatch(NamedTuple):
    """A batch between steps 4 and 7 of app.pipeline.pipeline, and when it was stored (perf_counter)."""

    batch: Batch
    work: BatchOutput
    written: WriteResult
    seconds: Seconds
    at: float


class Finalizer:
    """Calls `close` with what was stored, in that order, in one task at a time."""

    def __init__(
        self,
        close: Callable[[list[StoredBatch]], Awaitable[None]],
        spawn: Spawn,
        given_up: Callable[[Batch, str], None],
    ) -> None:
        """`given_up` is called with each batch that was not closed because `close` was interrupted, and the reason."""
        self._close, self._spawn, self._given_up = close, spawn, given_up
        self._stored: list[StoredBatch] = []
        self._rows = 0  # of `_stored`
        self._unclosed: dict[int, int] = {}  # by partition: bytes (BatchOutput.weight) of what is stored and not closed
        self._fewer = asyncio.Event()  # set when it has become less
        self._closer: asyncio.Task[None] | None = None
        self._urgent = asyncio.Event()
        self.lost_epoch = -1  # a batch of this epoch was stored and not closed: no more batches of the epoch are

    def add(self, stored: StoredBatch) -> None:
        """Have a stored batch closed soon. Raises TransientError when a batch before was not closed."""
        if stored.batch.epoch == self.lost_epoch:
            raise TransientError("a batch stored before this batch was not closed")
        self._stored.append(stored)
        self._rows += len(stored.work.rows)
        if weight := stored.work.weight:
            self._unclosed[stored.batch.partition] = self._unclosed.get(stored.batch.partition, 0) + weight
        if stored.work.alerts or self._rows >= CLOSE_ROWS:
            self._urgent.set()
        if self._closer is None or self._closer.done():
            self._closer = self._spawn(self._close_all())

    async def room(self, partition: int) -> None:
        """Wait while the alerts of the partition that are stored and not closed fill too much memory."""
        while self._unclosed.get(partition, 0) >= UNCLOSED_MAX:
            self._fewer.clear()
            await self._fewer.wait()

    def hurry(self) -> None:
        """Close the stored batches now."""
        self._urgent.set()

    def forget(self) -> None:
        """Forget the batches that were not closed: they come again."""
        self._stored.clear()
        self._rows = 0
        self._take_off(None)

    async def _close_all(self) -> None:
        while self._stored:
            if not self._urgent.is_set():
                with contextlib.suppress(TimeoutError):  # wait_for of Python 3.11 may swallow a cancellation
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await self._urgent.wait()
            self._urgent.clear()
            together, self._stored, self._rows = self._stored, [], 0
            try:
                await self._close(together)
                self._take_off(together)
            except TransientError as error:  # interrupted: these batches come again
                for stored in self._lose(together):
                    self._given_up(stored.batch, str(error))
            except BaseException:  # a bug, or the end of a drain
                self._lose(together)
                raise

    def _lose(self, together: list[StoredBatch]) -> list[StoredBatch]:
        """Close no more batches of this epoch; returns all batches that are not closed."""
        self.lost_epoch = together[-1].batch.epoch
        lost, self._stored, self._rows = together + self._stored, [], 0
        self._take_off(None)
        return lost

    def _take_off(self, closed: list[StoredBatch] | None) -> None:
        """These are no longer stored and not closed; None: none are."""
        if closed is None:
            self._unclosed.clear()
        for stored in closed or ():
            if weight := stored.work.weight:  # 0 where all was forgotten meanwhile
                partition = stored.batch.partition
                self._unclosed[partition] = max(0, self._unclosed.get(partition, 0) - weight)
        self._fewer.set()
