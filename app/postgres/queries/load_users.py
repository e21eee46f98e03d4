"""Users of a load test in the database: accounts that EMQX asks for, rules, and what is left of them afterwards."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import bcrypt

from app.postgres.connect import Connection

ROUNDS = 4  # the password is random, and a broker that checks it for thousands of devices shall not be what is measured

_ACCOUNTS = """INSERT INTO mqtt_users (username, user_id, password_hash)
SELECT name, name, $2 FROM unnest($1::text[]) AS made (name)"""
_RULES = "INSERT INTO user_configs (user_id, rules) SELECT name, $2::jsonb FROM unnest($1::text[]) AS made (name)"
_TAKEN = "SELECT count(*) FROM user_configs WHERE user_id = ANY($1::text[]) AND accepted IS NOT NULL"
_FORGET = (
    "DELETE FROM mqtt_acl WHERE username = ANY($1::text[])",
    "DELETE FROM mqtt_users WHERE username = ANY($1::text[])",
    "DELETE FROM user_configs WHERE user_id = ANY($1::text[])",
    "DELETE FROM active_alerts WHERE user_id = ANY($1::text[])",
    "DELETE FROM device_status WHERE user_id = ANY($1::text[])",
)
_PURGE = (
    "DELETE FROM raw_telemetry WHERE time >= $2 AND time <= $3 AND user_id = ANY($1::text[])",
    "DELETE FROM alert_history WHERE user_id = ANY($1::text[]) AND $2::timestamptz <= $3::timestamptz",
)


async def register(connection: Connection, users: Sequence[str], password: str) -> None:
    """Make an account for each user, all with the same password. Raises sqlstate.DATABASE_ERRORS."""
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS, b"2a")).decode()
    await connection.execute(_ACCOUNTS, users, digest)


async def give_rules(connection: Connection, users: Sequence[str], rules: Sequence[Any]) -> None:
    """Give each of these new users the rules. Raises sqlstate.DATABASE_ERRORS."""
    await connection.execute(_RULES, users, json.dumps(rules))


async def taken(connection: Connection, users: Sequence[str]) -> int:
    """How many of these users have rules that a worker has taken. Raises sqlstate.DATABASE_ERRORS."""
    return int(await connection.fetchval(_TAKEN, users))


async def forget(connection: Connection, users: Sequence[str]) -> None:
    """Remove the users: accounts, rules, open alerts and whether their devices are there. Readings and the history of
    alerts stay. Raises sqlstate.DATABASE_ERRORS.
    """
    async with connection.transaction():
        for statement in _FORGET:
            await connection.execute(statement, users)


async def purge(connection: Connection, users: Sequence[str], begin: datetime, end: datetime) -> None:
    """Remove the readings of these users with a time from `begin` to `end`, and their alert history. Raises
    sqlstate.DATABASE_ERRORS.
    """
    async with connection.transaction():
        for statement in _PURGE:
            await connection.execute(statement, users, begin, end)
