"""`iot-stream config`: the settings in force, and the JSON Schemas of what a user writes."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app.cli.render.table import print_table
from app.settings.resolved.resolved import DEFAULT, ResolvedSetting, resolved

config = typer.Typer(no_args_is_help=True)


@config.callback()
def group() -> None:
    """Look at the settings: what is in force, and where it came from. Changes nothing."""


@config.command()
def show(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD", help="Only settings with one of these in their names.")
    ] = None,
    given: Annotated[bool, typer.Option("--given", help="Only what is set, and no defaults.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
) -> None:
    """Each setting with its value and its source: environment, .env, the TOML file, or default. Secrets are masked.

    Exit code 2, with a line for each, when settings are wrong.

    Example: iot-stream config show mqtt kafka --given
    """
    found = [one for one in resolved() if _wanted(one, words or ()) and (one.source != DEFAULT or not given)]
    if as_json:
        print(json.dumps([{"name": one.name, "value": one.value, "source": one.source} for one in found]))
    else:
        print_table(("name", "source", "value"), [(one.name, one.source, _text(one.value)) for one in found])


def _wanted(one: ResolvedSetting, words: Sequence[str]) -> bool:
    return not words or any(word.upper() in one.name for word in words)


def _text(value: Any) -> str:
    """As a person writes it into the environment."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
