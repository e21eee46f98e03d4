"""Small writes that wait at the same time, put into one transaction, each with its own exact answer."""

import asyncio
from collections import deque
from collections.abc import Sequence

from app.adapters import sieve
from app.adapters.encodable import EncodingError
from app.adapters.insert import Session
from app.adapters.sqlstate import DATABASE_ERRORS
from app.core.model import Row
from app.core.write import Effect, Written


class Pending:
    """A write that somebody waits for."""

    def __init__(self, rows: Sequence[Row], effects: Sequence[Effect]) -> None:
        self.rows, self.effects = rows, effects
        self.answer: asyncio.Future[Written] = asyncio.get_running_loop().create_future()

    def settle(self, written: Written) -> None:
        """Give the answer, unless nobody waits for it any more."""
        if not self.answer.done():
            self.answer.set_result(written)

    def fail(self, error: BaseException) -> None:
        """Raise the error where the answer is awaited."""
        if not self.answer.done():
            self.answer.set_exception(error)


def take(waiting: deque[Pending], most_rows: int) -> list[Pending]:
    """Take the first write that is still wanted, and those after it that fit with it into `most_rows`."""
    group: list[Pending] = []
    total = 0
    while waiting and (not group or total + len(waiting[0].rows) <= most_rows):
        pending = waiting.popleft()
        if not pending.answer.done():
            group.append(pending)
            total += len(pending.rows)
    return group


async def store(session: Session, group: Sequence[Pending], copy_min_rows: int) -> None:
    """Store a group and settle each write in it. Raises DATABASE_ERRORS: those not settled by then are not stored."""
    if len(group) > 1 and await _store_together(session, group, copy_min_rows):
        return
    for pending in group:
        if not pending.answer.done():
            pending.settle(await sieve.store(session, pending.rows, pending.effects, copy_min_rows))


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
        if not sieve.is_data(error):
            raise
        return False
    for pending in group:
        pending.settle(Written(len(pending.rows)))
    return True
