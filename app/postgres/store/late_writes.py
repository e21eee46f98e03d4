"""Late writes: rows that may go to compressed chunks, in small pieces, each a transaction of its own.

TimescaleDB unpacks the rows with which a row may collide, up to 1,000 rows of the same device, and refuses a
transaction that unpacks more than timescaledb.max_tuples_decompressed_per_dml_transaction (100,000). So rows come
sorted by device, and pieces shrink where the limit is met, down to a size that may pass the limit.
"""

from collections import deque
from collections.abc import Sequence

from app.core.batch.effects import WriteResult
from app.core.model.records import Row
from app.postgres.sqlstate import DATABASE_ERRORS, limit_reached, of_late_rows
from app.postgres.store.session import WriteSession
from app.postgres.store.write_queue import PendingWrite

SMALLEST = 50  # rows of a piece that is stored without the limit
GROW_AFTER = 20  # pieces stored in a row before a larger one is tried
UNLIMITED = "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"


class LateWrites:
    """The write_queue.WritePolicy of the slow lane."""

    part = "late rows"

    def __init__(self, most_rows: int, copy_min_rows: int) -> None:
        self._most_rows, self._copy_min_rows = most_rows, copy_min_rows
        self._size = most_rows
        self._stored = 0  # pieces since the size changed

    @property
    def size(self) -> int:
        """How many rows the next piece has."""
        return self._size

    def take(self, waiting: deque[PendingWrite]) -> list[PendingWrite]:
        """Take the first write whose answer somebody still waits for."""
        while waiting:
            if not (pending := waiting.popleft()).answer.done():
                return [pending]
        return []

    async def store(self, session: WriteSession, group: Sequence[PendingWrite]) -> int:
        """Store the next piece of the first write, and settle the write with its last piece. Raises DATABASE_ERRORS."""
        pending = group[0]
        begin = sum(_length(one) for one in pending.written)
        while True:
            piece = pending.rows[begin : begin + self._size]
            try:
                written = await self._store_piece(session, piece)
            except DATABASE_ERRORS as error:
                if not limit_reached(error) or len(piece) <= SMALLEST:
                    raise
                self._size, self._stored = max(SMALLEST, len(piece) // 2), 0
            else:
                break
        self._grow()
        pending.written.append(written)
        if begin + len(piece) >= len(pending.rows):
            pending.settle(joined(pending.written))
        return len(piece)

    async def _store_piece(self, session: WriteSession, piece: Sequence[Row]) -> WriteResult:
        try:
            return await session.store(piece, (), self._copy_min_rows)
        except DATABASE_ERRORS as error:
            if not limit_reached(error) or len(piece) > SMALLEST:
                raise
        return await session.store(piece, (), self._copy_min_rows, UNLIMITED)

    def outage(self, error: BaseException) -> bool:
        """False for a lock or a limit that late rows alone meet."""
        return not of_late_rows(error)

    def _grow(self) -> None:
        self._stored += 1
        if self._stored >= GROW_AFTER and self._size < self._most_rows:
            self._size, self._stored = min(self._most_rows, self._size * 2), 0


def joined(parts: Sequence[WriteResult]) -> WriteResult:
    """One answer for pieces of rows that follow one another."""
    refused: list[tuple[int, str]] = []
    begin = 0
    for part in parts:
        refused += [(begin + index, wrong) for index, wrong in part.refused]
        begin += _length(part)
    return WriteResult(sum(part.rows for part in parts), sum(part.duplicates for part in parts), tuple(refused))


def _length(written: WriteResult) -> int:
    return written.rows + written.duplicates + len(written.refused)
