"""user_channels, as the notifier reads it and an operator edits it: where the alerts of users go beside MQTT."""

from datetime import datetime
from typing import NamedTuple

from app.postgres.connect import Connection

_ALL = "SELECT user_id, channels::text, created_at FROM user_channels"
_MAKE = "INSERT INTO user_channels (user_id) VALUES ($1) ON CONFLICT DO NOTHING"
_LOCK = "SELECT channels::text FROM user_channels WHERE user_id = $1 FOR UPDATE"
_PUT = "UPDATE user_channels SET channels = $2::jsonb WHERE user_id = $1"
_REMOVE = "DELETE FROM user_channels WHERE user_id = $1"


class StoredChannels(NamedTuple):
    """A row of user_channels."""

    user_id: str
    channels: str  # JSON
    created_at: datetime  # alerts from before then are not sent there


async def all_channels(connection: Connection) -> list[StoredChannels]:
    """The channels of each user who has some. Raises sqlstate.DATABASE_ERRORS."""
    return [StoredChannels(*row) for row in await connection.fetch(_ALL)]


async def channels_of(connection: Connection, user_id: str) -> str:
    """The channels of a user as JSON, which nobody else edits until the transaction ends. Raises
    sqlstate.DATABASE_ERRORS.
    """
    await connection.execute(_MAKE, user_id)
    return str(await connection.fetchval(_LOCK, user_id))


async def put_channels(connection: Connection, user_id: str, channels: str) -> None:
    """Store a user's channels, JSON, after `channels_of`; of a user without channels nothing stays, so that those added
    later get no alerts from before. Raises sqlstate.DATABASE_ERRORS.
    """
    if channels == "[]":
        await connection.execute(_REMOVE, user_id)
    else:
        await connection.execute(_PUT, user_id, channels)
