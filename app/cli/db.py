"""`iot-stream db init`: the schema, from init.sql, into the database of the settings."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app.adapters.encryption import database_context
from app.adapters.schema import INIT_SQL, apply
from app.settings import load

db = typer.Typer(no_args_is_help=True)


@db.callback()
def group() -> None:
    """Set up the database."""


@db.command()
def init(
    file: Annotated[Path, typer.Option(help="SQL to apply; may be applied again at any time.")] = INIT_SQL,
) -> None:
    """Apply init.sql to the database of IOT_DATABASE_URL. Doing it again changes nothing.

    Example: IOT_DATABASE_URL=postgresql://iot@db/iot iot-stream db init
    """
    settings = load()
    url, encrypted = settings.database_url.get_secret_value(), database_context(settings)
    asyncio.run(apply(url, file, settings.database_password, encrypted))
    print(f"applied {file.name}")
