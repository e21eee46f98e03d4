"""Alerts of a storm that were held back, sent once a minute: in, alert_history; out, one message, and rows marked."""

import asyncio
from contextlib import suppress
from datetime import datetime
from functools import partial

from app.core.alerts.digest import digest
from app.notify import metrics
from app.notify.publishing import Message, Publishing
from app.notify.retrying import RetryingDatabase, RetryUntilStopped, StoppedError
from app.postgres.queries import alert_budget
from app.settings import Settings

LOOK_SECONDS = 1.0  # between two looks for users whose digest is due


class Digests:
    """Sends digests on a database connection of its own: the digest of a large storm keeps no other alert waiting."""

    def __init__(self, settings: Settings, publishing: Publishing, retry: RetryUntilStopped) -> None:
        """Digests go through `publishing`, where they take turns with the alerts of their users."""
        self._budget, self._publishing, self._retry = settings.alerts_per_minute, publishing, retry
        self._database = RetryingDatabase(settings, f"{settings.notifier_client_id}-digests", retry)
        self._sending: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look every LOOK_SECONDS for users who are due, and send each a digest, one at a time; returns once stopped,
        and at once where there is no budget (IOT_ALERTS_PER_MINUTE 0).

        A digest that is not acknowledged by then is sent by the next process.
        """
        if not self._budget:
            return
        async with asyncio.TaskGroup() as group:
            while not self._retry.stopped:
                with suppress(StoppedError):
                    for user, until in (await self._database.ask(alert_budget.due)).items():
                        if user not in self._sending:
                            self._sending[user] = group.create_task(self._send(user, until))
                            self._sending[user].add_done_callback(partial(self._forget, user))
                    await self._retry.rest("digests", LOOK_SECONDS)
            for task in self._sending.values():
                task.cancel()

    async def _send(self, user: str, until: datetime) -> None:
        """Send a digest; a crash before its rows are marked sends the digest again, with the same digest_id."""
        first, counts = await self._database.ask(partial(alert_budget.held, user_id=user, until=until))
        if not first:
            return
        settled: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        message = Message(user, f"users/{user}/alerts", digest(user, first, counts), settled.set_result)
        self._publishing.put(message)
        refusal = await settled
        if refusal is None:
            metrics.PUBLISHED.labels("DIGEST").inc()
            await self._database.ask(partial(alert_budget.mark_digest_sent, user_id=user, until=until))
        else:
            await self._database.ask(partial(alert_budget.leave_out, user_id=user, until=until, reason=refusal))

    def _forget(self, user: str, _: object) -> None:
        del self._sending[user]

    def close(self) -> None:
        """Drop the connection to the database; safe twice."""
        self._database.close()
