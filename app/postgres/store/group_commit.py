"""Live writes: small ones that wait at the same time are put into one transaction, each with its own exact answer."""

from collections import deque
from collections.abc import Sequence

from app.core.batch.effects import Effect, WriteResult
from app.core.model.records import Row
from app.core.schema.column_types import KEY
from app.errors import IotStreamError
from app.postgres.sqlstate import DATABASE_ERRORS, limit_reached, words
from app.postgres.store import bisect
from app.postgres.store.encode_check import EncodingError
from app.postgres.store.pending_write import PendingWrite
from app.postgres.store.session import WriteSession

TOLD_ROWS = 64  # up to so many the database tells which are new: less work than BEGIN and COMMIT


class LimitReachedError(IotStreamError):
    """The rows of a live write go where late rows go: fewer of them at a time."""


class LiveWrites:
    """Work of the lanes for live rows (queue.Work)."""

    part = "writes"

    def __init__(self, copy_min_rows: int) -> None:
        self._copy_min_rows = copy_min_rows

    def take(self, waiting: deque[PendingWrite]) -> list[PendingWrite]:
        """Take the first write that is still wanted, and those after it that fit with it below `copy_min_rows`."""
        group: list[PendingWrite] = []
        total = 0
        while waiting and (not group or total + len(waiting[0].rows) <= self._copy_min_rows):
            pending = waiting.popleft()
            if not pending.answer.done():
                group.append(pending)
                total += len(pending.rows)
        return group

    async def store(self, session: WriteSession, group: Sequence[PendingWrite]) -> int:
        """Store a group and settle each write in it. Raises DATABASE_ERRORS: those not settled are not stored."""
        if len(group) == 1 or not await _store_together(session, group, self._copy_min_rows):
            for pending in group:
                if not pending.answer.done():
                    await self._store_alone(session, pending)
        return sum(len(pending.rows) for pending in group)

    async def _store_alone(self, session: WriteSession, pending: PendingWrite) -> None:
        try:
            pending.settle(await bisect.store(session, pending.rows, pending.effects, self._copy_min_rows))
        except DATABASE_ERRORS as error:
            if not limit_reached(error) or not pending.rows:
                raise
            pending.fail(LimitReachedError(words(error)))

    def outage(self, error: BaseException) -> bool:
        """Every failure that a live write waits for is."""
        return True


class _NotAllNewError(Exception):
    """The answer to a group is not the sum of simple answers."""


async def _store_together(session: WriteSession, group: Sequence[PendingWrite], copy_min_rows: int) -> bool:
    """Store the group at once, and settle each write in it; or store nothing and return False."""
    rows = [row for pending in group for row in pending.rows]
    effects = [effect for pending in group for effect in pending.effects]
    try:
        if session.keeps_state and len(rows) <= TOLD_ROWS and not effects:
            _settle(group, await session.insert_returning_keys(rows))
        else:
            await _store_new(session, rows, effects, copy_min_rows)
            for pending in group:
                pending.settle(WriteResult(len(pending.rows)))
    except _NotAllNewError:
        return False
    except (EncodingError, *DATABASE_ERRORS) as error:
        if not bisect.is_data(error) and not limit_reached(error):
            raise
        return False
    return True


def _settle(group: Sequence[PendingWrite], new: set[tuple[object, ...]]) -> None:
    """Give each write its count of the keys that are new; one that comes twice is new to the first."""
    for pending in group:
        count = len(new)
        new.difference_update(row[: len(KEY)] for row in pending.rows)
        count -= len(new)
        pending.settle(WriteResult(count, len(pending.rows) - count))


async def _store_new(session: WriteSession, rows: Sequence[Row], effects: Sequence[Effect], copy_min_rows: int) -> None:
    """One transaction for rows that are all new; raises _NotAllNewError, with nothing stored, if they are not.

    With a duplicate among them the server's count does not tell whose it was. Live traffic has hardly any, and a
    replay comes in batches too large to be grouped: so no large statement pays for telling them apart.
    """
    async with session.connection.transaction():
        if await session.insert(rows, copy=len(rows) >= copy_min_rows) != len(rows):
            raise _NotAllNewError
        await session.apply(effects)
