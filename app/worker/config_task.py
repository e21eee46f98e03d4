"""user_configs as anybody edits it -> the rules in effect, refusals in the log and a metric, and answers to them.

A refusal is answered by the one worker that has the partition of the user's own messages, to an edit that this
worker has seen: not to what stands there when the worker starts, nor while partitions move or Kafka is away.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from app.core.processing.replies import answer_to_edit
from app.core.user_config.edit_pace import batches
from app.core.user_config.last_known_good import LastKnownGood, RefusedRevision
from app.core.user_config.rulebook import RuleBook
from app.errors import TransientError
from app.ops import metrics
from app.ports import Outbox
from app.postgres.queries.config_feed import ConfigFeed

log = structlog.get_logger()

ANSWER_SECONDS = 5.0  # while Kafka is away the rules are followed all the same


class ConfigTask:
    """Follows user_configs until cancelled."""

    def __init__(self, table: ConfigFeed, book: RuleBook, outbox: Outbox, ours: Callable[[str], bool]) -> None:
        """`ours`: whether this worker answers that user. The outbox must bear an interruption of `send` at any time."""
        self._table, self._book, self._outbox, self._ours = table, book, outbox, ours
        self._in_force = LastKnownGood(book)

    async def follow(self, loaded: asyncio.Event) -> None:
        """Let each change of user_configs take effect, until cancelled; set `loaded` once the rules of the beginning
        have taken effect. Outages are waited out.
        """
        async for changes in self._table.changes():
            refused: list[RefusedRevision] = []
            for portion in batches(changes):
                wrong, taken = self._in_force.apply(portion)
                refused += wrong
                self._table.take(taken)
                await asyncio.sleep(0)  # everything else of the worker waits for these
            metrics.RULES_USERS.set(self._book.users)
            for one in refused:
                metrics.RULES_REFUSED.inc()
                log.warning("rules_refused", user_id=one.change.user_id, reasons=list(one.reasons))
            if loaded.is_set():
                await self._answer(refused)
            loaded.set()

    async def _answer(self, refused: Sequence[RefusedRevision]) -> None:
        answers = [reply for one in refused if self._ours(one.change.user_id) and (reply := answer_to_edit(one))]
        if not answers:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._outbox.send([], answers)
        except (TimeoutError, TransientError) as error:  # also a rebalance or a stop
            log.warning("refusal_not_answered", answers=len(answers), error=repr(error))
