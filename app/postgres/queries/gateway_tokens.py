"""Bearer tokens of accounts (gateway_tokens): made, listed, revoked. A token itself is shown once and kept nowhere."""

from datetime import datetime

import asyncpg
from msgspec import Struct

from app.core.routing.tokens import digest
from app.errors import PermanentError
from app.postgres.connect import Connection

_ADD = """INSERT INTO gateway_tokens (username, device_id, name, token_hash, expires_at)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5)) RETURNING id, expires_at"""
_LIST = """SELECT id, username, device_id, name, created_at, expires_at, coalesce(expires_at <= now(), false)
FROM gateway_tokens WHERE username = coalesce($1, username) ORDER BY username, id"""
_OF = "SELECT user_id, device_id, clientid FROM mqtt_users WHERE username = $1"


class StoredToken(Struct, frozen=True):
    """A token as the table has it."""

    number: int
    username: str
    device_id: str | None  # the token speaks for this device alone
    name: str  # what the token is for
    created: datetime
    ends: datetime | None
    ended: bool


async def add(
    connection: Connection, token: str, username: str, device_id: str | None, name: str, seconds: float | None
) -> tuple[int, datetime | None]:
    """Keep a token's digest for so many seconds (None: for ever); returns its number, and when it ends (None: never).

    Raises PermanentError when there is no such account, or the account is another device's, else
    sqlstate.DATABASE_ERRORS.
    """
    of = await connection.fetchrow(_OF, username)
    if of is None:
        raise PermanentError(f"there is no account {username}: see `iot-stream users list`")
    if of["device_id"] is not None and device_id not in (None, of["device_id"]):
        raise PermanentError(f"{username} is an account of the device {of['device_id']} alone")
    try:
        row = await connection.fetchrow(_ADD, username, device_id, name, digest(token), seconds)
    except asyncpg.ForeignKeyViolationError as error:  # removed this moment
        raise PermanentError(f"there is no account {username}: see `iot-stream users list`") from error
    assert row is not None
    return row["id"], row["expires_at"]


async def stored(connection: Connection, username: str | None = None) -> list[StoredToken]:
    """The tokens of an account, or of all. Raises sqlstate.DATABASE_ERRORS."""
    return [StoredToken(*row) for row in await connection.fetch(_LIST, username)]


async def revoke(connection: Connection, number: int) -> str:
    """Forget a token; returns the token's account. Raises PermanentError when there is no token of this number."""
    username = await connection.fetchval("DELETE FROM gateway_tokens WHERE id = $1 RETURNING username", number)
    if username is None:
        raise PermanentError(f"there is no token {number}: see `iot-stream users token list`")
    return str(username)
