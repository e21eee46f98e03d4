"""user_configs, followed: first the whole table, then its changes; and back, which configurations were taken."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from app.core.user_config.edit_pace import EditPace
from app.core.user_config.last_known_good import ConfigRevision
from app.postgres.connect import Connection, connect
from app.postgres.operator_advice import Advice
from app.postgres.sqlstate import DATABASE_ERRORS
from app.runtime.retry import backoff
from app.settings import Settings

# A change becomes visible when its transaction commits, but bears the time of the statement. Polls look this far back,
# and the comparison finds changes that took longer, and deletions.
OVERLAP = timedelta(seconds=30)
COMPARE_SECONDS = 60.0
OUTAGE_WAIT_MAX = 10.0  # seconds
TIMEOUT = 30.0  # seconds for one poll

_STATE = "SELECT count(*), clock_timestamp() FROM user_configs"
_CONFIG = """CASE WHEN sampling <> '{}'
    THEN jsonb_build_object('rules', rules, 'maintenance', maintenance, 'sampling', sampling)::text
    WHEN maintenance = '[]' THEN rules::text
    ELSE jsonb_build_object('rules', rules, 'maintenance', maintenance)::text END"""
_ROW = f"user_id, {_CONFIG}, updated_at, accepted::text, mutes::text"
_CHANGED = f"SELECT {_ROW} FROM user_configs WHERE updated_at > $1 ORDER BY updated_at"  # noqa: S608
_STAMPS = "SELECT user_id, updated_at FROM user_configs"
ROWS_OF = f"SELECT {_ROW} FROM user_configs WHERE user_id = ANY($1::text[])"  # noqa: S608
# Every worker notes what it took, and the first one writes. A row that has changed since is left to its next taker.
_ACCEPT = """UPDATE user_configs AS kept SET accepted = taken.text::jsonb
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS taken (user_id, text, updated_at)
WHERE (kept.user_id, kept.updated_at) = (taken.user_id, taken.updated_at)
  AND kept.accepted IS DISTINCT FROM taken.text::jsonb"""
_BEGINNING = datetime.fromisoformat("1971-01-01T00:00:00+00:00")

Found = dict[str, ConfigRevision]  # by user_id


class ConfigFeed:
    """Asks for changes every `rules_poll` seconds; waits out an outage, and then goes on from the last poll."""

    def __init__(
        self, settings: Settings, advice: Advice | None = None, compare_seconds: float = COMPARE_SECONDS
    ) -> None:
        self._settings, self._compare_seconds = settings, compare_seconds
        self._advice = advice or Advice()
        self._known: dict[str, datetime] = {}  # user_id -> updated_at of what was handed out
        self._asked = _BEGINNING  # on the server's clock
        self._compared = 0.0  # on the monotonic clock
        self._taken: list[ConfigRevision] = []  # to be noted
        self._pace: EditPace[ConfigRevision] = EditPace()

    def take(self, changes: Sequence[ConfigRevision]) -> None:
        """These configurations take effect now: noted before the next poll, for workers that start later."""
        self._taken += changes

    async def changes(self) -> AsyncGenerator[list[ConfigRevision], None]:
        """Yield the whole table first (an empty list if the table is empty), then each poll's changes, if any.

        A deleted row is yielded once, as None. Of a user who changes large rules again and again the last change is
        yielded when the user's time has come (app.core.user_config.edit_pace). Never ends; close the iterator to give
        the connection back.
        """
        connection: Connection | None = None
        first, failures = True, 0
        try:
            while True:
                try:
                    async with asyncio.timeout(TIMEOUT):
                        connection = connection or await connect(self._settings, "iot-stream rules")
                        await self._accept(connection)
                        async with connection.transaction(readonly=True):  # PgBouncer: one server for all questions
                            changes = self._pace.due(await self._poll(connection), time.monotonic())
                except DATABASE_ERRORS as error:
                    if connection is not None:
                        connection.terminate()
                    connection, failures = None, failures + 1
                    self._advice.failed("rules", error)
                    await asyncio.sleep(backoff(failures, 0.25, OUTAGE_WAIT_MAX))
                    continue
                failures = 0
                self._advice.settled("rules")
                if changes or first:
                    first = False
                    yield changes
                if not self._taken:  # else they are noted at once
                    await asyncio.sleep(self._settings.rules_poll)
        finally:
            if connection is not None:
                connection.terminate()

    async def _accept(self, connection: Connection) -> None:
        if self._taken:
            columns = zip(*((one.user_id, one.text, one.updated_at) for one in self._taken), strict=True)
            async with connection.transaction():  # as above
                await connection.execute(_ACCEPT, *map(list, columns))
            self._taken = []

    async def _poll(self, connection: Connection) -> list[ConfigRevision]:
        """Ask for changes since the last poll; compare all when due, or when the number of rows says so.

        The feed moves on only once all questions are answered: a poll that fails half-way hands out nothing.
        """
        state = await connection.fetchrow(_STATE)
        assert state is not None
        count, asked = state
        found = self._fresh(await connection.fetch(_CHANGED, self._asked - OVERLAP))
        gone: set[str] = set()
        now = time.monotonic()
        compare = now >= self._compared + self._compare_seconds or count != len(self._known.keys() | found.keys())
        if compare:
            gone = await self._compare(connection, found)
            self._compared = now
        self._asked = asked
        self._known.update((user, change.updated_at) for user, change in found.items())
        for user in gone:
            del self._known[user]
        return [*found.values(), *(ConfigRevision(user, None, asked) for user in gone)]

    async def _compare(self, connection: Connection, found: Found) -> set[str]:
        """Add to `found` the rows that were committed long after their change; return the users whose row is gone."""
        stamps: dict[str, datetime] = dict(map(tuple, await connection.fetch(_STAMPS)))
        missed = [user for user, updated in stamps.items() if self._known.get(user) != updated and user not in found]
        if missed:
            found.update(self._fresh(await connection.fetch(ROWS_OF, missed)))
        for user in found.keys() - stamps.keys():  # deleted between the two questions
            del found[user]
        return self._known.keys() - stamps.keys()

    def _fresh(self, rows: Iterable[Sequence[Any]]) -> Found:
        """The rows that were not handed out yet."""
        return {row[0]: ConfigRevision(*row) for row in rows if self._known.get(row[0]) != row[2]}
