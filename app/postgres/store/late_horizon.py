"""Which rows of a write are late: older than what the hypertable's policy leaves uncompressed, or than a setting."""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from app.core.batch.effects import WriteResult
from app.core.model.records import Row
from app.postgres.connect import Connection

REFRESH_SECONDS = 600.0  # how often the policy is asked for
_THERE = "SELECT to_regclass('timescaledb_information.jobs') IS NOT NULL"
_POLICY = """SELECT min(coalesce(config->>'compress_after', config->>'after')::interval)
    FROM timescaledb_information.jobs WHERE hypertable_name = 'raw_telemetry' AND scheduled
    AND proc_name IN ('policy_compression', 'policy_columnstore') AND hypertable_schema = current_schema()"""


class LateHorizon:
    """`after`: how old a row is when the row counts as late; None: no row is late."""

    def __init__(self, after: float | None, clock: Callable[[], float] = time.time) -> None:
        """`after` in seconds; None asks the database."""
        self._given = after is not None
        self.after = None if after is None else timedelta(seconds=after)
        self._clock = clock
        self._asked: float | None = None  # monotonic

    def late(self, rows: Sequence[Row]) -> list[int]:
        """Indexes of the late rows, sorted; a row without a proper time is live."""
        if self.after is None:
            return []
        limit = datetime.fromtimestamp(self._clock(), UTC) - self.after
        try:
            late = [index for index, row in enumerate(rows) if row[0] < limit]
        except TypeError:  # some row's time is no time, or has no zone; the database names the row
            late = [index for index, row in enumerate(rows) if _is_time(row[0]) and row[0] < limit]
        return self.sort(rows, late)

    def sort(self, rows: Sequence[Row], indexes: Iterable[int]) -> list[int]:
        """Device by device, in time order: what TimescaleDB unpacks together comes together."""
        return sorted(indexes, key=lambda index: (str(rows[index][1]), str(rows[index][2]), str(rows[index][0])))

    async def refresh(self, connection: Connection) -> None:
        """Ask for the policy, now and then. Raises DATABASE_ERRORS; not being allowed to ask means no policy."""
        now = time.monotonic()
        if self._given or (self._asked is not None and now < self._asked + REFRESH_SECONDS):
            return
        try:
            async with connection.transaction(readonly=True):  # PgBouncer: one server for both questions
                there = await connection.fetchval(_THERE)
                self.after = await connection.fetchval(_POLICY) if there else None
        except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedColumnError):
            self.after = None
        self._asked = now


class LateSplit:
    """`live` in the order given, `late` in the order of the indexes `late`."""

    def __init__(self, rows: Sequence[Row], late: Sequence[int]) -> None:
        apart = set(late)
        self._late = late
        self._live = [index for index in range(len(rows)) if index not in apart] if len(apart) < len(rows) else []
        self.live = [rows[index] for index in self._live]
        self.late = [rows[index] for index in late]

    def join(self, live: WriteResult, late: WriteResult) -> WriteResult:
        """The answer to the whole write; its indexes count the rows as given."""
        refused = [(self._live[index], wrong) for index, wrong in live.refused]
        refused += [(self._late[index], wrong) for index, wrong in late.refused]
        return WriteResult(
            live.rows + late.rows, live.duplicates + late.duplicates, tuple(sorted(refused)), live.refused_effects
        )


def _is_time(value: object) -> bool:
    return isinstance(value, datetime) and value.utcoffset() is not None
