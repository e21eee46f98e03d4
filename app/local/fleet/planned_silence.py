"""While no simulated devices send, their silence is planned: a maintenance window in the configurations of their users.

Without it the worker of a local stack would report a mass silence whenever the devices are stopped, or not wanted.
"""

import asyncio
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.errors import PermanentError, TransientError
from app.local.fleet.devices import USERS
from app.local.fleet.readings import RULES
from app.postgres.connect import operator_session
from app.settings import Settings

NOTE = "the simulated devices are stopped"  # by which the window is known again
YEARS = timedelta(days=3650)
_SEED = "INSERT INTO user_configs (user_id, rules) VALUES ($1, $2::jsonb) ON CONFLICT (user_id) DO NOTHING"
# The users' own windows stay.
_OTHERS = """coalesce((SELECT jsonb_agg(one) FROM jsonb_array_elements(maintenance) AS one
    WHERE one->>'note' IS DISTINCT FROM $2), '[]')"""
_END = f"""UPDATE user_configs SET maintenance = {_OTHERS} WHERE user_id = ANY($1::text[])
    AND maintenance @> jsonb_build_array(jsonb_build_object('note', $2::text))"""  # noqa: S608
_BEGIN = f"""UPDATE user_configs SET maintenance = {_OTHERS} || jsonb_build_array($3::jsonb)
    WHERE user_id = ANY($1::text[]) AND jsonb_typeof(maintenance) = 'array'"""  # noqa: S608


@contextmanager
def devices_send(settings: Settings, lock: Path) -> Iterator[None]:
    """The simulated users have rules, and no window of ours for the length of the block; after it they have one, unless
    another process sends for them still, which the file `lock` says. Raises TransientError and PermanentError before
    the block; after it a database that is away changes nothing.
    """
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        asyncio.run(begin(settings))
        try:
            yield
        finally:
            with suppress(BlockingIOError, TransientError, PermanentError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                asyncio.run(stopped(settings))


async def begin(settings: Settings) -> None:
    """Give the simulated users their rules, where they have none, and end the window. Raises TransientError,
    PermanentError.
    """
    async with operator_session(settings, "fleet") as connection:
        await connection.executemany(_SEED, [(user, json.dumps(RULES)) for user in USERS])
        await connection.execute(_END, USERS, NOTE)


async def stopped(settings: Settings) -> None:
    """Begin the window, now. Raises TransientError, PermanentError."""
    now = datetime.now(UTC)
    window = {"from": now.isoformat(), "until": (now + YEARS).isoformat(), "note": NOTE}
    async with operator_session(settings, "fleet") as connection:
        await connection.execute(_BEGIN, USERS, NOTE, json.dumps(window))
