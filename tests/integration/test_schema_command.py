"""`iot-stream schema sql|check` on real servers: each difference with the cure it prints, and what is no difference."""

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.core.schema.schema import Schema
from app.postgres.connect import Connection
from app.postgres.schema import telemetry_table
from app.settings.schema_struct import named
from tests import DEFAULT
from tests.servers import PostgresServer
from tools.command import Done, iot_stream

pytestmark = pytest.mark.integration

EXAMPLES = ("examples.logistics:Package", "examples.market:Tick", "examples.patients:Vitals")


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection]:
    """To a database as init.sql makes it."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@pytest.fixture
async def empty(postgres: PostgresServer, unique: str) -> AsyncIterator[str]:
    """URL of a database with nothing in it."""
    admin = await asyncpg.connect(postgres.dsn)
    await admin.execute(f"CREATE DATABASE {unique}e")
    yield postgres.dsn_of(f"{unique}e")
    await admin.execute(f"DROP DATABASE {unique}e WITH (FORCE)")
    await admin.close()


async def command(dsn: str, struct: str, *words: str) -> Done:
    return await iot_stream({"database_url": dsn, "schema_struct": struct}, *words)


async def reported(connection: Connection, schema: Schema = DEFAULT) -> list[tuple[str, str, str]]:
    return [(one.column, one.what, one.cure) for one in await telemetry_table.differences(connection, schema)]


async def test_init_sql_fits_the_default(connection: Connection) -> None:
    assert await reported(connection) == []


CHANGES = [
    (
        "DROP COLUMN battery",
        ("battery", "raw_telemetry has no column battery", 'ALTER TABLE raw_telemetry ADD COLUMN "battery" integer;'),
    ),
    (
        "ALTER COLUMN battery TYPE smallint",
        ("battery", "raw_telemetry.battery is smallint, not integer", "-- or change the struct"),
    ),
    (
        "ALTER COLUMN temperature TYPE numeric(5,1)",
        (
            "temperature",
            "raw_telemetry.temperature is numeric(5,1), not double precision",
            "TYPE double precision USING",
        ),
    ),
    (
        "ALTER COLUMN time TYPE timestamptz(0)",
        (
            "time",
            "raw_telemetry.time is timestamp(0) with time zone, not timestamp with time zone",
            "TYPE timestamp with",
        ),
    ),
    (
        "ALTER COLUMN temperature SET NOT NULL",
        (
            "temperature",
            "raw_telemetry.temperature is NOT NULL, and readings may lack it",
            "DROP NOT NULL; -- or drop `|",
        ),
    ),
    (
        "ADD COLUMN site text NOT NULL",
        ("site", "raw_telemetry wants a value for site, which Telemetry does not have", 'COLUMN "site" DROP NOT NULL;'),
    ),
    ("DROP COLUMN extra_data", ("extra_data", "has no column extra_data", "jsonb NOT NULL DEFAULT '{}'::jsonb;")),
]


@pytest.mark.parametrize(("change", "wanted"), CHANGES)
async def test_a_difference_and_its_cure(connection: Connection, change: str, wanted: tuple[str, str, str]) -> None:
    await connection.execute(f"ALTER TABLE raw_telemetry {change}")
    [(column, what, cure)] = await reported(connection)
    assert column == wanted[0]
    assert wanted[1] in what
    assert wanted[2] in cure
    await connection.execute(cure)
    assert await reported(connection) == []


@pytest.mark.parametrize(
    "change",
    [
        "ADD COLUMN site text",
        "ADD COLUMN site text NOT NULL DEFAULT 'here'",
        "ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY",
        "ADD COLUMN fahrenheit double precision NOT NULL GENERATED ALWAYS AS (temperature * 1.8 + 32) STORED",
        "ALTER COLUMN battery TYPE bigint",
        "ALTER COLUMN device_id TYPE varchar(64)",
        "ADD CHECK (battery BETWEEN 0 AND 100)",
    ],
)
async def test_what_keeps_no_row_out_is_no_difference(connection: Connection, change: str) -> None:
    await connection.execute(f"ALTER TABLE raw_telemetry {change}")
    assert await reported(connection) == []


async def test_every_difference_is_reported_at_once_in_order(connection: Connection) -> None:
    await connection.execute("ALTER TABLE raw_telemetry ADD COLUMN price text, ADD COLUMN site text NOT NULL")
    found = await reported(connection, named("examples.market:Tick"))
    assert [column for column, _, _ in found] == ["price", "size", "side", "site"]


async def test_what_loosens_the_table_is_taken_alone(connection: Connection) -> None:
    """As the local stack does with its own database."""
    changes = "DROP COLUMN battery, ADD COLUMN site text NOT NULL, ALTER COLUMN temperature TYPE real"
    await connection.execute(f"ALTER TABLE raw_telemetry {changes}")
    taken = await telemetry_table.add_missing(connection, DEFAULT)
    assert [one.column for one in taken] == ["battery", "site"]
    assert [column for column, _, _ in await reported(connection)] == ["temperature"]


@pytest.mark.parametrize("struct", ["app.telemetry:Telemetry", *EXAMPLES])
async def test_what_sql_prints_makes_a_table_that_fits(empty: str, struct: str) -> None:
    """On a server without TimescaleDB it says so, and the table is there."""
    missing = await command(empty, struct, "schema", "check")
    assert (missing.code, "iot-stream db init" in missing.out) == (1, True)
    whole = (await command(empty, struct, "schema", "sql")).out
    assert (await command(empty, struct, "schema", "sql", "--from-database")).out == whole
    connection = await asyncpg.connect(empty)
    try:
        notices: list[str] = []
        connection.add_log_listener(lambda _, notice: notices.append(str(notice)))
        for _ in range(2):  # again is nothing new
            await connection.execute(whole)
        timescale = await connection.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
        said = [
            notice for notice in notices if "TimescaleDB is not in this database: raw_telemetry is a plain" in notice
        ]
        assert len(said) == (0 if timescale else 2)
    finally:
        await connection.close()
    done = await command(empty, struct, "schema", "check")
    assert (done.code, done.out.partition(":")[0]) == (0, f"raw_telemetry fits {struct.partition(':')[2]}")
    assert (await command(empty, struct, "schema", "sql", "--from-database")).out == "-- nothing to do\n"


@pytest.mark.parametrize("struct", EXAMPLES)
async def test_the_table_first_and_all_the_rest_later(empty: str, struct: str) -> None:
    """`schema sql`, then `db init` and `db migrate`: the table is left as it is."""
    connection = await asyncpg.connect(empty)
    try:
        await connection.execute((await command(empty, struct, "schema", "sql")).out)
    finally:
        await connection.close()
    for words in (("db", "init"), ("db", "migrate"), ("schema", "check")):
        done = await command(empty, struct, *words)
        assert done.code == 0, done


async def test_for_a_machine(database: str) -> None:
    done = await command(database, EXAMPLES[1], "schema", "check", "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert found["schema"] == "Tick"
    assert [one["column"] for one in found["differences"]] == ["price", "size", "side"]
    sql = (await command(database, EXAMPLES[1], "schema", "sql", "--from-database", "--json")).json
    assert sql["sql"] == [one["cure"] for one in found["differences"]]
    assert (await command(database, "app.telemetry:Telemetry", "schema", "check", "--json")).json["differences"] == []


async def test_a_wrong_struct_is_reported_in_one_line_a_field(database: str) -> None:
    done = await command(database, "app.core.model.records:Rejected", "schema", "check")
    assert done.code not in (0, 1)
    assert "Traceback" not in done.error
    assert "IOT_SCHEMA_STRUCT" in done.error
    assert "Rejected.record" in done.error
    assert "Rejected.stage" in done.error


async def test_a_database_that_is_not_there() -> None:
    done = await command("postgresql://u@127.0.0.1:9/none", "app.telemetry:Telemetry", "schema", "check")
    assert (done.code, done.out) == (1, "")
    assert "is IOT_DATABASE_URL right, and the database up?" in done.error
