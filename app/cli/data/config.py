"""`iot-stream config`: the settings in force, and the JSON Schemas of what a user writes."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from app.cli.render.table import print_table
from app.settings.resolved.resolved import DEFAULT, ResolvedSetting, resolved

config = typer.Typer(no_args_is_help=True)

# Of app.cli.schemas.catalogue, which is imported only when one is asked for.
SCHEMAS = (
    "settings", "rules", "telemetry", "sensor-telemetry", "status", "command", "alert", "digest", "refusal",
    "dead-letter",
)  # fmt: skip
ASYNCAPI = "asyncapi"


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
    named = [one for one in resolved() if _wanted(one, words or ())]
    if not named:
        raise typer.BadParameter(f"no setting has {' or '.join(words or ())} in its name", param_hint="WORD")
    found = [one for one in named if one.source != DEFAULT or not given]
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


@config.command("schema")
def print_schema(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join((*SCHEMAS, ASYNCAPI))}.")],
) -> None:
    """Print the JSON Schema of what you write or receive, for your editor, your tests or a code generator.

    `asyncapi` prints the AsyncAPI document of all topics, of MQTT and Kafka, under the names that the settings give
    them. `telemetry` has the columns of IOT_SCHEMA_STRUCT. docs/schemas has the files, for the columns of this project.

    Example: iot-stream config schema rules > rules.schema.json
    """
    if name not in (*SCHEMAS, ASYNCAPI):
        raise typer.BadParameter(f"{name!r}: name {', '.join((*SCHEMAS, ASYNCAPI))}", param_hint="NAME")
    from app.cli.schemas.asyncapi import asyncapi
    from app.cli.schemas.catalogue import json_schema
    from app.settings import load

    settings = load()
    made = asyncapi(settings) if name == ASYNCAPI else json_schema(name, settings.telemetry_schema)
    print(json.dumps(made, indent=2))
