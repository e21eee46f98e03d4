"""COPYs into raw_telemetry that nobody feeds any more: looked for on a connection, and ended with their backends.

A worker that loses power or is stalled in mid-COPY leaves a backend that waits for its next bytes, and PostgreSQL ends
that wait by no timeout: statement_timeout is looked at only between messages, and the transaction is not idle. The
rows of such a COPY are neither there nor not there, so that whoever writes them next waits, with its partition. Whoever
connects anew, as a write does after each time-out, therefore ends COPYs whose own worker has given them up, or would
have if it ran.
"""

import asyncpg

from app.postgres.connect import Connection

# The server says so only of the same role's backends, which are the only ones that the role may end, too.
_END = """SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name LIKE 'iot-stream %'
    AND state = 'active' AND wait_event = 'ClientRead' AND query LIKE 'COPY "raw_telemetry"%'
    AND query_start < clock_timestamp() - make_interval(secs => $1)"""


async def end_abandoned_copies(connection: Connection, seconds: float) -> int:
    """End those that began more than so many seconds ago; how many there were. Raises DATABASE_ERRORS.

    None are ended where the role may not.
    """
    try:
        async with connection.transaction(readonly=True):  # PgBouncer: one server for the statement and its execution
            return int(await connection.fetchval(_END, seconds))
    except asyncpg.InsufficientPrivilegeError:
        return 0
