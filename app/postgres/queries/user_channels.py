"""user_channels as the notifier reads it: where the alerts of users go beside MQTT."""

from datetime import datetime
from typing import NamedTuple

from app.postgres.connect import Connection

_ALL = "SELECT user_id, channels::text, created_at FROM user_channels"


class StoredChannels(NamedTuple):
    """A row of user_channels."""

    user_id: str
    channels: str  # JSON
    created_at: datetime  # alerts from before then are not sent there


async def all_channels(connection: Connection) -> list[StoredChannels]:
    """The channels of each user who has some. Raises sqlstate.DATABASE_ERRORS."""
    return [StoredChannels(*row) for row in await connection.fetch(_ALL)]
