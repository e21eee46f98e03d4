"""MQTT accounts in PostgreSQL: mqtt_users and mqtt_acl, which EMQX asks (deploy/emqx/emqx.conf)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import bcrypt
from msgspec import Struct

from app.core.routing.mqtt_acl import AclAction, AclRule
from app.errors import PermanentError
from app.postgres.connect import Connection, operator_session
from app.settings import Settings

ROUNDS = 10  # 2^10: some 60 ms for each guess, and for EMQX at each login
PASSWORD_MIN, PASSWORD_MAX = 12, 72  # bytes; bcrypt looks at no more


class MqttAccount(Struct, frozen=True):
    """An account with the rules of its own; the rules of all accounts come on top."""

    username: str
    client_id: str | None  # the only client id that the account may use; None: any safe id
    device: tuple[str, str] | None  # the user and the device of the account; None: a user's account, of the user's name
    superuser: bool  # no rule binds the account
    created: datetime
    rules: Sequence[AclRule]


class AccountTable:
    """The accounts of one database, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(
        self,
        username: str,
        client_id: str | None,
        password: str,
        rules: Sequence[AclRule],
        device: tuple[str, str] | None = None,
    ) -> None:
        """Make an account with its own rules; `device`: the user and device of an account of one device alone.

        Raises PermanentError when the name is taken.
        """
        user, device_id = device or (username, None)
        try:
            await self._connection.execute(
                "INSERT INTO mqtt_users (username, clientid, user_id, device_id, password_hash)"
                " VALUES ($1, $2, $3, $4, $5)",
                username,
                client_id,
                user,
                device_id,
                hashed(password),
            )
        except asyncpg.UniqueViolationError as error:
            raise PermanentError(f"{username} exists already: see `iot-stream users passwd`") from error
        await self._connection.executemany(
            "INSERT INTO mqtt_acl (username, permission, action, topic, priority) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT DO NOTHING",
            [(username, one.permission, one.action.value, one.topic, one.priority) for one in rules],
        )

    async def set_password(self, username: str, password: str) -> None:
        """Set an account's password. Raises PermanentError when there is no such account."""
        statement = "UPDATE mqtt_users SET password_hash = $2, salt = '' WHERE username = $1"
        _there(username, await self._connection.execute(statement, username, hashed(password)))

    async def remove(self, username: str) -> None:
        """Remove the account and its own rules. Raises PermanentError when there is no such account."""
        _there(username, await self._connection.execute("DELETE FROM mqtt_users WHERE username = $1", username))
        await self._connection.execute("DELETE FROM mqtt_acl WHERE username = $1", username)

    async def all(self) -> list[MqttAccount]:
        """All accounts, in the order of their names."""
        rows = await self._connection.fetch("SELECT * FROM mqtt_acl ORDER BY priority, id")
        rules: dict[str, list[AclRule]] = {}
        for row in rows:
            for action in (row["action"],) if row["action"] != "all" else ("publish", "subscribe"):
                of = (row["username"], row["permission"], AclAction(action), row["topic"])
                one = AclRule(*of, row["priority"], row["clientid"])
                rules.setdefault(row["username"], []).append(one)
        users = await self._connection.fetch("SELECT * FROM mqtt_users ORDER BY username")
        return [_account(row, rules.get(row["username"], [])) for row in users]


def _account(row: asyncpg.Record, rules: Sequence[AclRule]) -> MqttAccount:
    device = (row["user_id"], row["device_id"]) if row["device_id"] is not None else None
    return MqttAccount(row["username"], row["clientid"], device, row["is_superuser"], row["created_at"], rules)


@asynccontextmanager
async def accounts(settings: Settings) -> AsyncIterator[AccountTable]:
    """The accounts of the settings' database; the changes of the block are kept unless it raises.

    Raises TransientError when the database is away, PermanentError when the database refuses.
    """
    async with operator_session(settings, "users") as connection, connection.transaction():
        yield AccountTable(connection)


def password_fault(password: str) -> str | None:
    """What is wrong with a password to be set; None when nothing is."""
    size = len(password.encode())
    if size < PASSWORD_MIN:
        return f"a password of {size} bytes is too short: give at least {PASSWORD_MIN}"
    if size > PASSWORD_MAX:
        return f"a password of {size} bytes is too long: bcrypt looks at {PASSWORD_MAX}"
    return "a password holds no NUL" if "\0" in password else None


def hashed(password: str) -> str:
    """The bcrypt hash of a password, in the form that EMQX and pgcrypto know ($2a$)."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS, b"2a")).decode()


def _there(username: str, status: str) -> None:
    if status.endswith(" 0"):
        raise PermanentError(f"there is no account {username}: see `iot-stream users list`")
