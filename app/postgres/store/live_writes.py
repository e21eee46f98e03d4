"""Live writes: small ones that wait at the same time share a transaction; each goes straight in, or is staged.

Straight into the table goes what is expected to be new and large enough (direct_copy.py). What has failed in any way
is staged at its next try: an outage may have hidden that the rows were stored.
"""

from collections import deque
from collections.abc import Sequence

from app.core.batch.copy_policy import CopyPolicy, distinct
from app.core.batch.effects import WriteResult
from app.errors import LimitReachedError
from app.postgres.sqlstate import DATABASE_ERRORS, limit_reached, words
from app.postgres.store.session import WriteSession
from app.postgres.store.write_queue import PendingWrite


class LiveWrites:
    """Group commit: small writes that wait at the same time share a transaction, each with its own exact answer."""

    part = "writes"

    def __init__(self, copy_min_rows: int, direct_min_rows: int = 0, policy: CopyPolicy | None = None) -> None:
        """Rows go straight in from `direct_min_rows` on, if `policy` lets them; 0: never."""
        self._copy_min_rows, self._direct_min_rows = copy_min_rows, direct_min_rows
        self._policy = policy or CopyPolicy()

    def take(self, waiting: deque[PendingWrite]) -> list[PendingWrite]:
        """Take the first write that is still wanted, and writes after it as long as they fit below `copy_min_rows`."""
        group: list[PendingWrite] = []
        total = 0
        while waiting and (not group or total + len(waiting[0].rows) <= self._copy_min_rows):
            pending = waiting.popleft()
            if not pending.answer.done():
                group.append(pending)
                total += len(pending.rows)
        return group

    async def store(self, session: WriteSession, group: Sequence[PendingWrite]) -> int:
        """Store a group and settle each write in it. Raises DATABASE_ERRORS: writes not settled are not stored."""
        direct = self._may_go_direct(group) and await session.direct.fits()
        for pending in group:
            pending.tried = True
        failed, answers = False, None
        if len(group) > 1:
            answers = await self._store_together(session, group, direct)
            failed, direct = direct and answers is None, False
        for index, pending in enumerate(group):
            if answers is not None:
                self._settle(pending, answers[index])
            elif not pending.answer.done():
                await self._store_alone(session, pending, direct, failed)
        return sum(len(pending.rows) for pending in group)

    def _may_go_direct(self, group: Sequence[PendingWrite]) -> bool:
        rows = sum(len(pending.rows) for pending in group)
        return 0 < self._direct_min_rows <= rows and all(
            not pending.tried and self._policy.goes_direct(pending.origin) for pending in group if pending.rows
        )

    async def _store_together(
        self, session: WriteSession, group: Sequence[PendingWrite], direct: bool
    ) -> list[WriteResult] | None:
        writes = [(pending.rows, pending.effects) for pending in group]
        if direct:
            return await session.direct.store_together(writes)
        return await session.store_together(writes, self._copy_min_rows)

    async def _store_alone(self, session: WriteSession, pending: PendingWrite, direct: bool, failed: bool) -> None:
        """`failed`: the rows went straight in with others, which failed."""
        try:
            written = await session.direct.store(pending.rows, pending.effects) if direct else None
            failed = failed or (direct and written is None)
            if written is None:
                written = await session.store(pending.rows, pending.effects, self._copy_min_rows)
        except DATABASE_ERRORS as error:
            if not limit_reached(error) or not pending.rows:
                raise
            self._policy.answered(pending.origin, clean=False)
            pending.fail(LimitReachedError(words(error)))
        else:
            self._settle(pending, written, failed)

    def _settle(self, pending: PendingWrite, written: WriteResult, failed: bool = False) -> None:
        if pending.rows:
            self._policy.answered(pending.origin, clean=not failed and _clean(pending, written))
        pending.settle(written)

    def outage(self, error: BaseException) -> bool:
        """True for every failure: a live write waits for each of them."""
        return True


def _clean(pending: PendingWrite, written: WriteResult) -> bool:
    """Whether COPY into the table would have taken the rows: repeats among themselves are found beforehand."""
    if written.refused or written.refused_effects:
        return False
    return not written.duplicates or written.duplicates == len(pending.rows) - len(distinct(pending.rows))
