"""The JSON Schema of the TOML file with settings; its descriptions are those of docs/settings.md."""

from typing import Any

import msgspec
from pydantic import SecretStr
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticUndefined

from app.settings import Settings

Json = dict[str, Any]


class _Schemas(GenerateJsonSchema):
    """Pydantic's, which knows msgspec's structs too."""

    def is_instance_schema(self, schema: Any) -> Json:
        """The schema of a value that has to be of a class of ours."""
        (found,), parts = msgspec.json.schema_components([schema["cls"]])
        made: Json = parts.get(schema["cls"].__name__, found)
        return made


def settings() -> Json:
    """The names of the TOML file, their values and defaults; a secret is a text, and has no default here that is one.
    Tables [sinks.NAME] hold the settings of single sinks (docs/sinks.md).
    """
    made = Settings.model_json_schema(schema_generator=_Schemas)
    properties: Json = made["properties"]
    for name, field in Settings.model_fields.items():
        properties[name].pop("title", None)
        if isinstance(field.default, SecretStr):
            properties[name]["default"] = field.default.get_secret_value()
        elif field.default is PydanticUndefined:
            properties[name].pop("default", None)
    tables = {"type": "object", "additionalProperties": {"type": "object"}}
    properties["sinks"] = {**properties["sinks"], "anyOf": [_without_words(properties["sinks"]), tables]}
    for word in ("type", "items"):
        properties["sinks"].pop(word, None)
    parts = {"$defs": made["$defs"]} if "$defs" in made else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **parts}


def _without_words(schema: Json) -> Json:
    return {name: value for name, value in schema.items() if name in ("type", "items", "anyOf")}
