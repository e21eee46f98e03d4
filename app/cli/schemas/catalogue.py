"""Every JSON Schema by its name: `iot-stream config schema NAME` prints it, docs/schemas has the files."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from app.cli.schemas import messages, settings, user_config
from app.core.schema.schema import Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class SchemaEntry(NamedTuple):
    """One schema: its title, and how it is made from the columns of a reading."""

    title: str
    made: Callable[[Schema], dict[str, Any]]


CATALOGUE: Mapping[str, SchemaEntry] = {
    "settings": SchemaEntry("iot-stream.toml: settings", lambda _: settings.settings()),
    "rules": SchemaEntry("users/{user}/config: rules, maintenance, sampling", lambda _: user_config.user_config()),
    "telemetry": SchemaEntry("users/{user}/devices/{device}/telemetry", messages.telemetry),
    "sensor-telemetry": SchemaEntry("iot/{node}/{sensor}/telemetry", lambda _: messages.sensor_telemetry()),
    "status": SchemaEntry("iot/{node}/status", lambda _: messages.status()),
    "command": SchemaEntry("users/{user}/alerts/manage", lambda _: messages.command()),
    "alert": SchemaEntry("users/{user}/alerts, and the topic of alerts", lambda _: messages.alert()),
    "digest": SchemaEntry("users/{user}/alerts, of a storm", lambda _: messages.digest()),
    "refusal": SchemaEntry("users/{user}/config/errors and alerts/errors", lambda _: messages.refusal()),
    "dead-letter": SchemaEntry("the topic of dead letters", lambda _: messages.dead_letter()),
}


def json_schema(name: str, schema: Schema) -> dict[str, Any]:
    """The JSON Schema `name` of CATALOGUE, for readings of `schema`. Raises KeyError for another name."""
    entry = CATALOGUE[name]
    return {"$schema": DIALECT, "title": entry.title, **entry.made(schema)}
