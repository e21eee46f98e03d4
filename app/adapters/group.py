"""Live writes: small ones that wait at the same time are put into one transaction, each with its own exact answer."""

from collections import deque
from collections.abc import Sequence

from app.adapters import sieve
from app.adapters.encodable import EncodingError
from app.adapters.insert import Session
from app.adapters.pending import Pending
from app.adapters.sqlstate import DATABASE_ERRORS, limit_reached, words
from app.core.write import Written
from app.errors import IotStreamError


class LimitReachedError(IotStreamError):
    """The rows of a live write go where late rows go: fewer of them at a time."""


class Live:
    """Work of the lanes for live rows (queue.Work)."""

    part = "writes"

    def __init__(self, copy_min_rows: int) -> None:
        self._copy_min_rows = copy_min_rows

    def take(self, waiting: deque[Pending]) -> list[Pending]:
        """Take the first write that is still wanted, and those after it that fit with it below `copy_min_rows`."""
        group: list[Pending] = []
        total = 0
        while waiting and (not group or total + len(waiting[0].rows) <= self._copy_min_rows):
            pending = waiting.popleft()
            if not pending.answer.done():
                group.append(pending)
                total += len(pending.rows)
        return group

    async def store(self, session: Session, group: Sequence[Pending]) -> int:
        """Store a group and settle each write in it. Raises DATABASE_ERRORS: those not settled are not stored."""
        if len(group) == 1 or not await _store_together(session, group, self._copy_min_rows):
            for pending in group:
                if not pending.answer.done():
                    await self._store_alone(session, pending)
        return sum(len(pending.rows) for pending in group)

    async def _store_alone(self, session: Session, pending: Pending) -> None:
        try:
            pending.settle(await sieve.store(session, pending.rows, pending.effects, self._copy_min_rows))
        except DATABASE_ERRORS as error:
            if not limit_reached(error) or not pending.rows:
                raise
            pending.fail(LimitReachedError(words(error)))

    def outage(self, error: BaseException) -> bool:
        """Every failure that a live write waits for is."""
        return True


class _NotAllNewError(Exception):
    """The answer to a group is not the sum of simple answers."""


async def _store_together(session: Session, group: Sequence[Pending], copy_min_rows: int) -> bool:
    """Store the group in one transaction if all its rows are new; else store nothing and return False.

    With a duplicate among them the server's count does not tell whose it was. Live traffic has hardly any, and a
    replay comes in batches too large to be grouped: so no statement pays for telling them apart.
    """
    rows = [row for pending in group for row in pending.rows]
    try:
        async with session.connection.transaction():
            if await session.insert(rows, copy=len(rows) >= copy_min_rows) != len(rows):
                raise _NotAllNewError
            await session.apply([effect for pending in group for effect in pending.effects])
    except _NotAllNewError:
        return False
    except (EncodingError, *DATABASE_ERRORS) as error:
        if not sieve.is_data(error) and not limit_reached(error):
            raise
        return False
    for pending in group:
        pending.settle(Written(len(pending.rows)))
    return True
