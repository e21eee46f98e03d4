"""What a worker writes beside the rows, planned by the database and not run: a schema that is too old shows here.

A column or a key that is missing ends in the error that would stop a worker, so the cure is the worker's own.
"""

from app.doctor.finding import Finding, broken
from app.postgres.connect import Connection
from app.postgres.queries.config_feed import ROWS_OF
from app.postgres.sqlstate import DATABASE_ERRORS, Failure, advice, classify, words
from app.postgres.store.statements import STATEMENTS

# By the names that an error shows; the second is what a worker reads before anything else.
_PLANNED = {
    **{name.value: one.sql for name, one in STATEMENTS.items()},
    **{f"{name.value}_together": one.together for name, one in STATEMENTS.items() if one.together},
    "read_configs": ROWS_OF,
}


async def look(area: str, connection: Connection) -> list[Finding]:
    """A finding of `area` for each reason for which the database cannot plan statements, with the statements that it
    stops; none when it plans all. Raises DATABASE_ERRORS of an outage.
    """
    stopped: dict[str, list[str]] = {}
    cures: dict[str, str] = {}
    for name, sql in _PLANNED.items():
        try:
            # A transaction of its own: behind PgBouncer both steps reach the same server.
            async with connection.transaction():
                statement = await connection.prepare(sql)
                await statement.explain(*(None for _ in statement.get_parameters()))
        except DATABASE_ERRORS as error:
            if classify(error) is Failure.TRANSIENT:
                raise
            stopped.setdefault(words(error), []).append(name)
            cures[words(error)] = advice(error) or "compare the tables with init.sql"
    return [
        broken(area, f"a worker stops at {', '.join(names)}: {reason}", cures[reason])
        for reason, names in stopped.items()
    ]
