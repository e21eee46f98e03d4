"""The budget of messages a user gets in a minute, kept in alert_history, so that all notifiers share it.

Above it events are held back (`held_at`); once a minute they are told together. While anything of a user is held, all
that follows is held too: so what is told keeps its order.
"""

from collections.abc import Collection, Sequence

from app.adapters.alert_history import Key
from app.adapters.database import Connection
from app.core.digest import Held

INTERVAL = 60.0  # seconds

_SPENT = """
SELECT asked.user_id, (SELECT count(*) FROM alert_history AS h WHERE h.user_id = asked.user_id
      AND h.sent_at > now() - $2 * interval '1 second' AND h.held_at IS NULL) AS spent,
  EXISTS (SELECT FROM alert_history AS h WHERE h.user_id = asked.user_id
      AND h.held_at IS NOT NULL AND h.sent_at IS NULL) AS holding
FROM unnest($1::text[]) AS asked (user_id)"""
_HOLD = """
UPDATE alert_history AS kept SET held_at = now()
FROM unnest($1::text[], $2::text[], $3::integer[]) AS asked (alert_id, status, repeat)
WHERE (kept.alert_id, kept.status, kept.repeat) = (asked.alert_id, asked.status, asked.repeat)
  AND kept.sent_at IS NULL
RETURNING kept.alert_id, kept.status, kept.repeat"""
_DUE = """
SELECT user_id FROM alert_history WHERE held_at IS NOT NULL AND sent_at IS NULL
GROUP BY user_id HAVING min(held_at) <= now() - $1 * interval '1 second'"""
_HELD = """
SELECT alert_id, status, repeat, device_id, rule_id, severity, event_time FROM alert_history
WHERE user_id = $1 AND held_at IS NOT NULL AND sent_at IS NULL
ORDER BY held_at, event_time, first_seen, repeat"""


async def left(connection: Connection, users: Collection[str], budget: int) -> dict[str, int]:
    """How many more messages each of `users` may get now. Raises sqlstate.DATABASE_ERRORS."""
    rows = await connection.fetch(_SPENT, list(users), INTERVAL)
    return {row["user_id"]: 0 if row["holding"] else max(0, budget - row["spent"]) for row in rows}


async def hold(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    """Hold events back; those that are not on record cannot be. Raises sqlstate.DATABASE_ERRORS."""
    if not keys:
        return set()
    rows = await connection.fetch(_HOLD, *map(list, zip(*keys, strict=True)))
    return {(row["alert_id"], row["status"], row["repeat"]) for row in rows}


async def due(connection: Connection) -> list[str]:
    """Users whose digest is to be told. Raises sqlstate.DATABASE_ERRORS."""
    return [row["user_id"] for row in await connection.fetch(_DUE, INTERVAL)]


async def held(connection: Connection, user_id: str) -> list[Held]:
    """What is held back of a user, in its order. Raises sqlstate.DATABASE_ERRORS."""
    return [Held(*row) for row in await connection.fetch(_HELD, user_id)]
