"""The budget of messages that a user gets in a minute, kept in alert_history, so that all notifiers share it.

Events above the budget are held back (`held_at`); once a minute they are sent together. While an event of a user is
held, all later events are held too: so the sent events keep their order. A storm may have any size: the database counts
its events.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from app.core.alerts.digest import LISTED_MAX, RULES_MAX, Counts, HeldAlert
from app.postgres.connect import Connection
from app.postgres.queries.alert_history import Key

INTERVAL = 60.0  # seconds
SETTLED = 1.0  # seconds: another notifier's transaction that holds events back is over by then

_SPENT = """
SELECT asked.user_id, (SELECT count(*) FROM (SELECT FROM alert_history AS h WHERE h.user_id = asked.user_id
      AND h.sent_at > now() - $2 * interval '1 second' AND h.held_at IS NULL LIMIT $3) AS sent) AS spent,
  EXISTS (SELECT FROM alert_history AS h WHERE h.user_id = asked.user_id
      AND h.held_at IS NOT NULL AND h.sent_at IS NULL AND h.left_out IS NULL) AS holding
FROM unnest($1::text[]) AS asked (user_id)"""
_HOLD = """
UPDATE alert_history AS kept SET held_at = now()
FROM unnest($1::text[], $2::text[], $3::integer[]) AS asked (alert_id, status, repeat)
WHERE (kept.alert_id, kept.status, kept.repeat) = (asked.alert_id, asked.status, asked.repeat)
  AND kept.sent_at IS NULL
RETURNING kept.alert_id, kept.status, kept.repeat"""
_WAITING = "held_at IS NOT NULL AND sent_at IS NULL AND left_out IS NULL"
# From user to user by the index, however many rows each of them has.
_DUE = f"""
WITH RECURSIVE holding AS (
  (SELECT user_id, held_at FROM alert_history WHERE {_WAITING} ORDER BY user_id, held_at LIMIT 1)
  UNION ALL
  SELECT following.user_id, following.held_at FROM holding, LATERAL (
    SELECT user_id, held_at FROM alert_history WHERE user_id > holding.user_id AND {_WAITING}
    ORDER BY user_id, held_at LIMIT 1) AS following)
SELECT user_id, now() - $2 * interval '1 second' AS until FROM holding
WHERE held_at <= now() - $1 * interval '1 second'"""  # noqa: S608
_WHERE = f"WHERE user_id = $1 AND held_at <= $2 AND {_WAITING}"
_OF_USER = f"FROM alert_history {_WHERE}"
_HELD = f"""
SELECT alert_id, status, repeat, device_id, rule_id, severity, event_time {_OF_USER}
ORDER BY held_at, event_time, first_seen, repeat LIMIT {LISTED_MAX}"""
_COUNTS = f"""
SELECT count(*) AS count, count(DISTINCT device_id) AS devices, min(event_time) AS begin, max(event_time) AS end
{_OF_USER}"""
_BY = """
SELECT coalesce({column}, '') AS what, count(*) AS number {rows} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {limit}"""
_MARK_DIGEST_SENT = f"UPDATE alert_history SET sent_at = now() {_WHERE}"  # noqa: S608
_LEFT_OUT = f"UPDATE alert_history SET left_out = $3 {_WHERE}"  # noqa: S608


async def left(connection: Connection, users: Collection[str], budget: int) -> dict[str, int]:
    """How many more messages each of `users` may get in this minute. Raises sqlstate.DATABASE_ERRORS."""
    rows = await connection.fetch(_SPENT, list(users), INTERVAL, budget)
    return {row["user_id"]: 0 if row["holding"] else max(0, budget - row["spent"]) for row in rows}


async def hold(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    """Hold events back; returns the keys that are held. Events that are not on record cannot be held.

    Raises sqlstate.DATABASE_ERRORS.
    """
    if not keys:
        return set()
    rows = await connection.fetch(_HOLD, *map(list, zip(*keys, strict=True)))
    return {(row["alert_id"], row["status"], row["repeat"]) for row in rows}


async def due(connection: Connection) -> dict[str, datetime]:
    """Users whose digest is due, each with the end of the digest's time span. Raises sqlstate.DATABASE_ERRORS."""
    return {row["user_id"]: row["until"] for row in await connection.fetch(_DUE, INTERVAL, SETTLED)}


async def held(connection: Connection, user_id: str, until: datetime) -> tuple[list[HeldAlert], Counts]:
    """The first held events of a user, in their order, and the counts of all. Raises sqlstate.DATABASE_ERRORS."""
    first = [HeldAlert(*row) for row in await connection.fetch(_HELD, user_id, until)]
    counts = await connection.fetchrow(_COUNTS, user_id, until)
    assert counts
    by = {}
    for column in ("status", "severity", "rule_id"):
        limit = RULES_MAX if column == "rule_id" else "ALL"
        rows = await connection.fetch(_BY.format(column=column, rows=_OF_USER, limit=limit), user_id, until)
        by[column] = {row["what"]: row["number"] for row in rows}
    return first, Counts(**counts, by_status=by["status"], by_severity=by["severity"], by_rule=by["rule_id"])


async def mark_digest_sent(connection: Connection, user_id: str, until: datetime) -> None:
    """Note that the broker acknowledged the digest. Raises sqlstate.DATABASE_ERRORS."""
    await connection.execute(_MARK_DIGEST_SENT, user_id, until)


async def leave_out(connection: Connection, user_id: str, until: datetime, reason: str) -> None:
    """Note that the digest is not sent, and why. Raises sqlstate.DATABASE_ERRORS."""
    await connection.execute(_LEFT_OUT, user_id, until, reason)
