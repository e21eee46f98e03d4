"""Rows of mqtt_users, mqtt_acl and gateway_tokens -> accounts with their rules, everybody's rules behind their own."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from app.core.routing.mqtt_acl import ALL, DEVICE, AclAction, AclRule
from app.core.routing.publish_rules import PublishRules
from app.ports import Account, AccountRow
from app.postgres.connect import Connection

_USERS = "SELECT username, clientid, user_id, device_id, password_hash, is_superuser FROM mqtt_users"
NAMED = f"{_USERS} WHERE username = ANY($1::text[])"
OF_TOKENS = """SELECT username, clientid, user_id, users.device_id, password_hash, is_superuser,
  tokens.device_id, token_hash, expires_at
FROM gateway_tokens tokens JOIN mqtt_users users USING (username) WHERE token_hash = ANY($1::bytea[])"""
# A gateway has no QoS: what it takes is acknowledged, as with QoS 1, and never retained.
RULES = f"""SELECT username, permission, topic, priority, clientid FROM mqtt_acl
WHERE username = ANY($1::text[] || '{{{ALL},{DEVICE}}}'::text[]) AND action IN ('publish', 'all')
  AND (qos IS NULL OR qos = 1) AND (retain IS NULL OR retain = 0)
ORDER BY priority, id"""  # noqa: S608 - two constants
WHOLE = "*"  # ends a client id that stands for all client ids that begin so


class UserRow(NamedTuple):
    """A row of mqtt_users; of a token also the device that the token is bound to."""

    username: str
    client_id: str | None
    user_id: str
    device_id: str | None
    password_hash: str
    superuser: bool
    token_device: str | None = None
    token_hash: bytes = b""
    expires_at: datetime | None = None


Placed = Sequence[tuple[int, AclRule]]  # rules, and the place of each in the order of the table
Rules = Mapping[str, Placed]  # by name


async def by_names(connection: Connection, names: Sequence[str]) -> dict[str, AccountRow]:
    """The accounts of these names that there are. Raises sqlstate.DATABASE_ERRORS."""
    users = [UserRow(*row) for row in await connection.fetch(NAMED, names)]
    rules = await _rules(connection, users)
    return {user.username: account_row(user, rules) for user in users}


async def by_tokens(connection: Connection, digests: Sequence[bytes]) -> dict[bytes, AccountRow]:
    """The accounts of the tokens with these digests that there are. Raises sqlstate.DATABASE_ERRORS."""
    users = [UserRow(*row) for row in await connection.fetch(OF_TOKENS, digests)]
    rules = await _rules(connection, users)
    return {user.token_hash: account_row(user, rules) for user in users}


async def _rules(connection: Connection, users: Iterable[UserRow]) -> Rules:
    names = sorted({user.username for user in users})
    found: dict[str, list[tuple[int, AclRule]]] = {}
    if names:
        for place, row in enumerate(await connection.fetch(RULES, names)):
            username, permission, topic, priority, client_id = row
            one = AclRule(username, permission, AclAction.PUBLISH, topic, priority, client_id)
            found.setdefault(username, []).append((place, one))
    return found


def account_row(user: UserRow, rules: Rules) -> AccountRow:
    """The account as the gateways know it; `rules` are by account, and under ALL and DEVICE everybody's."""
    own = rules.get(user.username, ())
    denied = [(place, rule) for place, rule in own if rule.permission != "allow"]
    of_devices = _joined(denied, rules.get(DEVICE, ()))
    ends = user.expires_at.timestamp() if user.expires_at else None
    if user.device_id is not None:
        account = Account(user.user_id, user.device_id, rules=_joined(own, rules.get(DEVICE, ())))
    else:
        device, prefix = _bound(user)
        account = Account(user.username, device, prefix, _joined(own, rules.get(ALL, ()), user.superuser))
    if user.token_device is not None:  # a token has nothing of what its account alone was given
        mine = account.speaks_for(user.token_device)
        account = Account(account.user_id, user.token_device, rules=of_devices if mine else _shared((), False))
    return AccountRow(account, user.password_hash, of_devices, ends)


def _bound(user: UserRow) -> tuple[str | None, str]:
    """The one device of an account that is bound to a client id, or how the names of its devices begin."""
    if user.client_id is None:
        return None, ""
    name = user.client_id.removeprefix(f"{user.username}:")
    return (None, name[:-1]) if name.endswith(WHOLE) else (name, "")


def _joined(own: Placed, of_all: Placed, superuser: bool = False) -> PublishRules:
    """In the order of the table, as EMQX looks at them: by priority, then by age."""
    placed = sorted([*own, *of_all], key=lambda one: one[0])
    return _shared(tuple([rule for _, rule in placed]), superuser)


@lru_cache(maxsize=4096)
def _shared(rules: tuple[AclRule, ...], superuser: bool) -> PublishRules:
    """One object for all accounts with equal rules: nearly all accounts have everybody's rules alone."""
    return PublishRules(rules, superuser)
