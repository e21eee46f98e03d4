"""Accounts of the local stack in its database, where gateways ask: Mosquitto's accounts, with the same passwords."""

from collections.abc import Mapping

import bcrypt

from app.core.routing.tokens import digest
from app.postgres.connect import Connection
from app.postgres.queries.mqtt_accounts import hashed

PUT = """INSERT INTO mqtt_users (username, user_id, password_hash, is_superuser) VALUES ($1, $1, $2, $3)
ON CONFLICT (username) DO UPDATE SET password_hash = EXCLUDED.password_hash, is_superuser = EXCLUDED.is_superuser,
salt = ''"""
ADMIT = """INSERT INTO gateway_tokens (username, name, token_hash) VALUES ($1, 'local stack', $2)
ON CONFLICT DO NOTHING"""


async def put_accounts(connection: Connection, passwords: Mapping[str, str], operator: str, token: str) -> None:
    """Have the accounts {name: password} in mqtt_users; `operator` is bound by no rule, and `token` is his. Rows
    that are right already stay unchanged. Raises sqlstate.DATABASE_ERRORS.
    """
    rows = await connection.fetch(
        "SELECT username, password_hash, is_superuser FROM mqtt_users WHERE username = ANY($1)", list(passwords)
    )
    known = {row["username"]: (row["password_hash"], row["is_superuser"]) for row in rows}
    for name, password in passwords.items():
        right, superuser = known.get(name, ("", False))
        if superuser is not (name == operator) or not _matches(password, right):
            await connection.execute(PUT, name, hashed(password), name == operator)
    await connection.execute(ADMIT, operator, digest(token))


def _matches(password: str, hash_: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), hash_.encode())
    except ValueError:  # no bcrypt hash at all
        return False
