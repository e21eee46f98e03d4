"""The channels of all users, read from user_channels every few seconds; what an operator wrote wrong is logged."""

import time

import structlog

from app.core.model.alert_event import AlertEvent
from app.core.model.namespaces import FLEET
from app.notify.channels.channel import Channel, read_channels
from app.notify.retrying import RetryingDatabase
from app.postgres.queries.user_channels import StoredChannels, all_channels

log = structlog.get_logger()

EVERY = 5.0  # seconds


class ChannelBook:
    """What each user has; the user FLEET's are everybody's."""

    def __init__(self, database: RetryingDatabase) -> None:
        self._database, self._read = database, float("-inf")
        self._channels: dict[str, list[Channel]] = {}
        self._since: dict[str, int] = {}  # by user: when the row was made, ms since 1970
        self._refused: dict[str, str] = {}  # by user: why, as it was logged

    async def refresh(self) -> None:
        """Read the table, if the last time is EVERY seconds ago; an outage of the database is waited out. Raises
        StoppedError when the program stops.
        """
        if time.monotonic() < self._read + EVERY:
            return
        self.take(await self._database.ask(all_channels))
        self._read = time.monotonic()

    def close(self) -> None:
        """Drop the connection to the database."""
        self._database.close()

    def take(self, rows: list[StoredChannels]) -> None:
        """Take the whole table. What is wrong leaves what the user had, and is logged once."""
        found, refused = dict[str, list[Channel]](), dict[str, str]()
        for user_id, text, created_at in rows:
            self._since[user_id] = int(created_at.timestamp() * 1000)
            try:
                found[user_id] = read_channels(text)
            except ValueError as error:
                found[user_id], refused[user_id] = self._channels.get(user_id, []), str(error)
                if self._refused.get(user_id) != refused[user_id]:
                    log.error("channels_refused", user_id=user_id, error=refused[user_id])
        self._channels, self._refused = found, refused

    def of(self, event: AlertEvent, at: int) -> list[Channel]:
        """The channels to which the event goes, whose record was written `at`, in ms since 1970: the user's own first;
        each URL once.
        """
        users = [user_id for user_id in (event.user_id, FLEET) if at >= self._since.get(user_id, 0)]
        both = [one for user_id in users for one in self._channels.get(user_id, ())]
        return list({one.url: one for one in reversed(both) if one.takes(event)}.values())[::-1]
