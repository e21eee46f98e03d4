"""user_channels as the notifier reads it: where the alerts of users go beside MQTT."""

from app.postgres.connect import Connection

_ALL = "SELECT user_id, channels::text FROM user_channels"


async def all_channels(connection: Connection) -> list[tuple[str, str]]:
    """The channels of each user who has some, as JSON. Raises sqlstate.DATABASE_ERRORS."""
    return [(row[0], row[1]) for row in await connection.fetch(_ALL)]
