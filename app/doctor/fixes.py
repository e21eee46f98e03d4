"""What the doctor may mend by itself: settings in, steps out that add what is missing and change nothing else.

Safe is what makes a topic, a table, a column or an index that is not there. Not among it: partitions and settings of
topics that exist, migrations that drop, delete or rewrite, offsets, rows, rules. A worker that runs goes on meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import takewhile
from typing import NamedTuple

from app.doctor.database import RIGHTS
from app.errors import PermanentError, TransientError
from app.kafka.access import access
from app.kafka.topics import create, existing, wanted
from app.postgres.connect import Connection, database_context, owner_session
from app.postgres.schema import init_sql, telemetry_table
from app.postgres.schema.migrate import Migration, known, migrate, status
from app.settings import Settings
from app.settings.resolved.resolved import shown

_ANY_TABLE = "SELECT bool_or(to_regclass(name) IS NOT NULL) FROM unnest($1::text[]) AS name"
LOCK_SECONDS = 3  # that a change of a table waits for its users, who wait behind it


class Fix(NamedTuple):
    """One step: what it does, for a person, and how; `apply` raises PermanentError or TransientError."""

    what: str
    apply: Callable[[], Awaitable[None]]


async def fixes(settings: Settings) -> list[Fix]:
    """What can be added now, in the order in which it has to be; nothing of a server that does not answer, which the
    findings say.
    """
    found = await asyncio.gather(_of_kafka(settings), _of_database(settings), return_exceptions=True)
    made = list[Fix]()
    for one in found:
        if isinstance(one, list):
            made += one
        elif not isinstance(one, TransientError | PermanentError | OSError):
            raise one
    return made


async def _of_kafka(settings: Settings) -> list[Fix]:
    kafka, needed = access(settings), wanted(settings)
    there = await existing(kafka, [topic.name for topic in needed])
    missing = [topic.name for topic in needed if topic.name not in there]
    if not missing or any(topic.partitions != there.get(topic.name, topic.partitions) for topic in needed):
        return []

    async def make() -> None:
        await create(kafka, needed, settings.kafka_replication_factor)

    return [Fix(f"make the topics {', '.join(missing)} at {kafka}, {settings.kafka_partitions} partitions each", make)]


async def _of_database(settings: Settings) -> list[Fix]:
    where = f"in {shown('database_url', settings.database_url)}"
    async with _owner(settings) as connection:
        if not await connection.fetchval(_ANY_TABLE, [*RIGHTS, "iot_migrations"]):
            return [Fix(f"apply init.sql {where}", lambda: _init(settings))]
        steps = await additive_steps(connection)
        loose = await _loose(connection, settings)
    made = []
    if steps:
        names = ", ".join(map(str, steps))
        made.append(Fix(f"take the migrations {names} {where}", lambda: _migrate(settings, steps)))
    if loose:
        made.append(Fix(f"{' '.join(one.cure for one in loose)} {where}", lambda: _loosen(settings)))
    return made


async def additive_steps(connection: Connection) -> list[Migration]:
    """The migrations that the database lacks, up to the first that does more than add. None where a step is not the
    one that this program knows. Raises DATABASE_ERRORS.
    """
    states = await status(connection, steps := known())
    if any(one.problem for one in states):
        return []
    lacking = {one.version for one in states if one.applied is None}
    return [*takewhile(lambda step: step.adds_only, (step for step in steps if step.version in lacking))]


async def _loose(connection: Connection, settings: Settings) -> Sequence[telemetry_table.Difference]:
    if not await telemetry_table.exists(connection):
        return []
    found = await telemetry_table.differences(connection, settings.telemetry_schema)
    return [one for one in found if one.loosens]


def _owner(settings: Settings) -> AbstractAsyncContextManager[Connection]:
    url = settings.database_url.get_secret_value()
    return owner_session(url, "the database", settings.database_password, database_context(settings))


async def _init(settings: Settings) -> None:
    url, encrypted = settings.database_url.get_secret_value(), database_context(settings)
    await init_sql.apply(url, password=settings.database_password, encrypted=encrypted)
    async with _owner(settings) as connection:
        await migrate(connection, known())


async def _migrate(settings: Settings, steps: Sequence[Migration]) -> None:
    async with _owner(settings) as connection:
        await migrate(connection, known(), steps[-1].version)


async def _loosen(settings: Settings) -> None:
    async with _owner(settings) as connection:
        await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        await telemetry_table.add_missing(connection, settings.telemetry_schema)
