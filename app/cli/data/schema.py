"""`iot-stream schema`: the columns of raw_telemetry that the struct of IOT_SCHEMA_STRUCT asks for."""

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated

import typer

from app.postgres.connect import operator_session
from app.postgres.schema import telemetry_table
from app.settings import Settings, load

AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]
schema = typer.Typer(no_args_is_help=True)


@schema.callback()
def group() -> None:
    """Your own columns: a struct in Python, named by IOT_SCHEMA_STRUCT, and the table that fits it. docs/adapting.md.

    Example: IOT_SCHEMA_STRUCT=mydata:Parcel iot-stream schema check
    """


@schema.command()
def sql(
    from_database: Annotated[bool, typer.Option(help="Only what the database of the settings lacks.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the SQL of raw_telemetry: the whole table, or the changes that the database lacks. Nothing is changed.

    Example: iot-stream schema sql --from-database | psql "$IOT_DATABASE_URL"
    """
    settings = load()
    columns = settings.telemetry_schema
    statements = [one.cure for one in _differences(settings)] if from_database else [telemetry_table.create(columns)]
    if from_database and any(not one.startswith("ALTER") for one in statements):
        statements = [telemetry_table.create(columns)]
    if as_json:
        print(json.dumps({"schema": columns.name, "sql": statements}))
    else:
        print("\n".join(statements) or "-- nothing to do")


@schema.command()
def check(as_json: AsJson = False) -> None:
    """Compare the database with the struct; each difference with its cure. Exit code 1 when they differ.

    Example: iot-stream schema check --json
    """
    settings = load()
    columns, found = settings.telemetry_schema, _differences(settings)
    if as_json:
        differences = [{"column": one.column, "what": one.what, "cure": one.cure} for one in found]
        print(json.dumps({"schema": columns.name, "differences": differences}))
    elif found:
        for one in found:
            print(f"{one.what}\n  {one.cure}")
    else:
        print(f"raw_telemetry fits {columns.name}: {', '.join(columns.names)}")
    if found:
        raise typer.Exit(1)


def _differences(settings: Settings) -> Sequence[telemetry_table.Difference]:
    async def asked() -> Sequence[telemetry_table.Difference]:
        async with operator_session(settings, "schema") as connection:
            return await telemetry_table.differences(connection, settings.telemetry_schema)

    return asyncio.run(asked())
