"""A write that somebody waits for."""

import asyncio
from collections.abc import Sequence

from app.core.batch.effects import Effect, WriteResult
from app.core.model.records import Row


class PendingWrite:
    """Rows and effects, and the answer once there is one. `written` are the answers to its first pieces."""

    def __init__(self, rows: Sequence[Row], effects: Sequence[Effect] = ()) -> None:
        self.rows, self.effects = rows, effects
        self.written: list[WriteResult] = []
        self.answer: asyncio.Future[WriteResult] = asyncio.get_running_loop().create_future()

    def settle(self, written: WriteResult) -> None:
        """Give the answer, unless nobody waits for it any more."""
        if not self.answer.done():
            self.answer.set_result(written)

    def fail(self, error: BaseException) -> None:
        """Raise the error where the answer is awaited."""
        if not self.answer.done():
            self.answer.set_exception(error)
