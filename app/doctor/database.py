"""The database: reachable, with the schema and the rights that a worker needs, its rules readable, its clock right."""

import time
from datetime import UTC, datetime

from app.core.schema.schema import Schema
from app.core.user_config.rulebook import RuleBook
from app.doctor import jobs, statements
from app.doctor.finding import Finding, Level, broken, ok, warning
from app.postgres.connect import Connection, connect
from app.postgres.schema.migrate import known, status
from app.postgres.schema.telemetry_table import differences, keeps_rows_once
from app.postgres.sqlstate import DATABASE_ERRORS, KNOWN, advice, words
from app.settings import Settings

AREA = "database"
# What a worker that is stopped by it says: the same words, so that a search for one finds the other.
MISSING, FORBIDDEN = KNOWN["42P01"].advice or "", KNOWN["42501"].advice or ""
MIGRATE = "run as the owner: iot-stream db migrate"
SKEW_SECONDS = 2.0  # a device's reading may be this much in the future without anybody noticing
# What a worker does with each table (init.sql grants it to iot_worker).
RIGHTS = {
    "raw_telemetry": ("SELECT", "INSERT"),
    "user_configs": ("SELECT", "INSERT", "UPDATE"),
    "device_status": ("SELECT", "INSERT", "UPDATE"),
    "active_alerts": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "rolling_averages": ("SELECT", "INSERT", "UPDATE"),
    "alert_history": ("SELECT", "INSERT"),
}


async def look(settings: Settings) -> list[Finding]:
    """All findings about the database; a single finding when it does not answer. Never raises for an outage."""
    try:
        connection = await connect(settings, "iot-stream doctor")
        try:
            schema = settings.telemetry_schema
            found = [*await _server(connection), *await _schema(connection, schema), *await _rules(connection, schema)]
            return [*found, *await jobs.look(AREA, connection)]
        finally:
            await connection.close(timeout=5)
    except DATABASE_ERRORS as error:
        cure = advice(error) or "start the database, or set IOT_DATABASE_URL to its address"
        return [broken(AREA, f"the database does not answer: {words(error)}", cure)]


async def _server(connection: Connection) -> list[Finding]:
    begun = time.time()
    row = await connection.fetchrow(
        "SELECT clock_timestamp() AS now, current_user AS account, current_database() AS database,"
        " current_setting('server_version') AS version, current_setting('transaction_read_only') = 'on' AS readonly,"
        " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescale"
    )
    assert row is not None
    ended = time.time()
    kind = f"TimescaleDB {row['timescale']}" if row["timescale"] else "without TimescaleDB: no compression or retention"
    server = f"PostgreSQL {row['version'].split()[0]}, {kind}; account {row['account']}, database {row['database']}"
    found = [ok(AREA, server)]
    if row["readonly"]:
        cure = "name all hosts in IOT_DATABASE_URL with target_session_attrs=read-write, or end the read-only mode"
        found.append(broken(AREA, "the database is read-only", cure))
    theirs = row["now"].timestamp()
    skew = 0.0 if begun <= theirs <= ended else min(theirs - begun, theirs - ended, key=abs)
    if abs(skew) > SKEW_SECONDS:
        own_time = datetime.fromtimestamp(ended, UTC).isoformat(timespec="seconds")
        what = f"the database's clock differs from this machine's by {skew:+.1f} s (here: {own_time})"
        return [*found, warning(AREA, what, "set both by NTP: a worker refuses readings by its own clock")]
    return [*found, ok(AREA, f"its clock is right to {abs(skew):.1f} s")]


async def _schema(connection: Connection, schema: Schema) -> list[Finding]:
    there = [table for table in RIGHTS if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table)]
    found = [broken(AREA, f"the table {table} is missing", MISSING) for table in RIGHTS if table not in there]
    for table in there:
        lacking = [
            right for right in RIGHTS[table] if not await connection.fetchval(
                "SELECT has_table_privilege($1, $2)", table, right
            )
        ]  # fmt: skip
        if lacking:
            found.append(broken(AREA, f"this account may not {', '.join(lacking)} on {table}", FORBIDDEN))
    if not await connection.fetchval("SELECT has_database_privilege(current_database(), 'TEMPORARY')"):
        found.append(broken(AREA, "this account may make no temporary tables, which COPY goes through", FORBIDDEN))
    if "raw_telemetry" in there:
        found += [*await _raw_telemetry(connection, schema), *await _steps(connection)]
    if not any(one.level is Level.BROKEN for one in found):  # else the same would be said again
        found += await statements.look(AREA, connection)
    return found or [ok(AREA, f"{len(there)} tables, with all columns, keys and rights")]


async def _steps(connection: Connection) -> list[Finding]:
    """Whether the schema is the schema that this program was made for."""
    if not await connection.fetchval("SELECT to_regclass('iot_migrations') IS NOT NULL"):
        return [warning(AREA, "the schema is of a version without migrations", MIGRATE)]
    if not await connection.fetchval("SELECT has_table_privilege('iot_migrations', 'SELECT')"):
        return []
    states = await status(connection, known())
    lacking = [f"{one.version:04} {one.name}" for one in states if one.applied is None]
    found = [warning(AREA, f"migrations the schema has not had: {', '.join(lacking)}", MIGRATE)] if lacking else []
    wrong = [one for one in states if one.problem]
    cure = "start the program that belongs to the database, or find out who changed the file"
    return found + [warning(AREA, f"migration {one.version:04} {one.name}: {one.problem}", cure) for one in wrong]


async def _raw_telemetry(connection: Connection, schema: Schema) -> list[Finding]:
    found = [broken(AREA, one.what, one.cure) for one in await differences(connection, schema)]
    if not await keeps_rows_once(connection):
        key = "(time, user_id, device_id, sequence_id)"
        what = f"raw_telemetry has no unique key {key}: rows can be stored twice"
        found.append(broken(AREA, what, f"remove what is double, then ALTER TABLE raw_telemetry ADD PRIMARY KEY {key}"))
    return found


async def _rules(connection: Connection, schema: Schema) -> list[Finding]:
    if not await connection.fetchval("SELECT to_regclass('user_configs') IS NOT NULL"):
        return []
    if not await connection.fetchval("SELECT has_table_privilege('user_configs', 'SELECT')"):
        return []
    rows = await connection.fetch("SELECT user_id, rules::text FROM user_configs")
    refused = RuleBook(schema).apply(map(tuple, rows))
    found = [
        warning(
            AREA, f"the rules of {one.user_id} are refused: {'; '.join(one.reasons)}", "mend the rules in user_configs"
        )
        for one in refused
    ]
    return found or [ok(AREA, f"rules of {len(rows)} user{'s' * (len(rows) != 1)}, all valid")]
