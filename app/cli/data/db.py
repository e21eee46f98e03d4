"""`iot-stream db`: the schema of the settings' database: made from init.sql, and brought up to date."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from app.cli.render.table import print_table
from app.postgres.connect import Connection, database_context, owner_session
from app.postgres.schema import migrate as migrations
from app.postgres.schema.init_sql import INIT_SQL, apply
from app.settings import load

T = TypeVar("T")
db = typer.Typer(no_args_is_help=True)


@db.callback()
def group() -> None:
    """Set up the database, and bring it up to date. Run this as the owner of the tables, before new workers start."""


@db.command()
def init(
    file: Annotated[
        Path, typer.Option(show_default="that of this version", help="SQL to apply; may be applied again at any time.")
    ] = INIT_SQL,
) -> None:
    """Apply init.sql to the database of IOT_DATABASE_URL, then what `migrate` would. A second run changes nothing.

    Example: IOT_DATABASE_URL=postgresql://iot@db/iot iot-stream db init
    """
    settings = load()
    url, encrypted = settings.database_url.get_secret_value(), database_context(settings)
    asyncio.run(apply(url, file, settings.database_password, encrypted))
    print(f"applied {file.name}")
    if file == INIT_SQL:
        _migrate()


@db.command()
def migrate() -> None:
    """Take the numbered steps that the database has not taken yet; workers may run meanwhile.

    Example: IOT_DATABASE_URL=postgresql://iot@db/iot iot-stream db migrate
    """
    if not _migrate():
        print("up to date")


@db.command("status")
def show(as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False) -> None:
    """Each step and when the database has taken it. Exit code 1 when a step is missing or differs.

    Example: iot-stream db status --json
    """
    states = _run("db status", lambda connection: migrations.status(connection, migrations.known()))
    if as_json:
        rows = [
            {"version": one.version, "name": one.name, "problem": one.problem,
             "applied": one.applied.isoformat() if one.applied else None} for one in states
        ]  # fmt: skip
        print(json.dumps(rows))
    else:
        print_table(("step", "name", "taken", "state"), [_cells(one) for one in states])
    if any(one.problem or one.applied is None for one in states):
        raise typer.Exit(1)


def _cells(one: migrations.MigrationState) -> tuple[str, str, str, str]:
    when = f"{one.applied:%Y-%m-%d %H:%M:%S %Z}" if one.applied else "not yet"
    return f"{one.version:04}", one.name, when, one.problem or ("ok" if one.applied else "")


def _migrate() -> bool:
    """Whether a step was taken."""
    taken = _run("db migrate", lambda connection: migrations.migrate(connection, migrations.known()))
    for step in taken:
        print(f"migrated {step}")
    return bool(taken)


def _run(what: str, call: Callable[[Connection], Awaitable[T]]) -> T:
    settings = load()
    url = settings.database_url.get_secret_value()

    async def done() -> T:
        async with owner_session(url, what, settings.database_password, database_context(settings)) as connection:
            return await call(connection)

    return asyncio.run(done())
