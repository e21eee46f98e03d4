"""The JSON Schemas of messages: telemetry, status, commands about alerts, alert events, refusals, dead letters."""

from typing import Any

import msgspec

from app.core.alerts.commands import COMMENT_MAX, MINUTES_MAX, NAME_MAX, CommandAction
from app.core.alerts.digest import AlertDigest
from app.core.deadletters.envelope import Envelope
from app.core.model.alert_event import AlertEvent
from app.core.model.records import Reason
from app.core.presence.last_will import STATUS_FLAGS, STATUS_WORDS
from app.core.processing.replies import ObeyedBody, RefusalBody
from app.core.schema.column_types import Column
from app.core.schema.schema import Schema

Json = dict[str, Any]

_INT64: Json = {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1}
_TIME: Json = {
    "description": "RFC 3339 with its zone, or seconds or milliseconds since 1970",
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}],
}
_NULL: Json = {"type": "null"}


def telemetry(schema: Schema) -> Json:
    """A message to users/{user}/devices/{device}/telemetry, with the columns of `schema`; any other field is kept."""
    columns = {field: _value(column) for column in schema.columns for field in column.fields}
    required = [column.fields[0] for column in schema.columns if column.required and len(column.fields) == 1]
    ids: Json = {name: {"type": ["string", "integer", "null"]} for name in ("user_id", "device_id")}
    return {
        "type": "object",
        "properties": {"sequence_id": _INT64, **_times(), **ids, **columns},
        "required": ["sequence_id", *required],
        "anyOf": [{"required": [name], "properties": {name: _TIME}} for name in ("timestamp", "time")],
    }


def sensor_telemetry() -> Json:
    """A message to iot/{node}/{sensor}/telemetry: any object; its time and its number are worked out where absent."""
    return {"type": "object", "properties": {"sequence_id": {"anyOf": [_INT64, _NULL]}, **_times()}}


def command() -> Json:
    """A message to users/{user}/alerts/manage."""
    name: Json = {"type": "string", "minLength": 1}
    minutes: Json = {"type": "number", "exclusiveMinimum": 0, "maximum": MINUTES_MAX}
    return {
        "type": "object",
        "properties": {
            "device_id": name, "rule_id": {"type": "string"}, "action": {"enum": list(CommandAction)},
            "duration_minutes": {"type": ["number", "null"]}, "user_id": {"type": ["string", "null"]},
            "way": {"enum": ["users", "iot", None]}, "node_id": {"type": ["string", "null"]},
            "by": {"type": "string", "maxLength": NAME_MAX}, "comment": {"type": "string", "maxLength": COMMENT_MAX},
            "request_id": {"type": "string", "maxLength": NAME_MAX},
        },
        "required": ["device_id", "rule_id", "action"],
        "if": {"properties": {"action": {"const": CommandAction.SNOOZE.value}}},
        "then": {"properties": {"duration_minutes": minutes}, "required": ["duration_minutes"]},
    }  # fmt: skip


def alert() -> Json:
    """A message on users/{user}/alerts, and a record of the topic of alerts."""
    (_,), parts = msgspec.json.schema_components([AlertEvent], ref_template="#/$defs/{name}")
    event = parts.pop(AlertEvent.__name__)
    properties = {**event["properties"], "delayed": {"const": True, "description": "sent long after its time"}}
    for name in ("event_time", "first_seen"):
        properties[name] = {"type": "string", "format": "date-time"}
    return {**event, "properties": properties, "description": "One event of an alert's life.", "$defs": parts}


def status() -> Json:
    """A message to iot/{node}/status: a bare word, with or without quotes, or an object that has it in a field."""
    word: Json = {"type": ["string", "boolean", "number"], "description": "online, or a last will such as offline"}
    fields = {name: word for name in STATUS_WORDS} | {name: {"type": "boolean"} for name in STATUS_FLAGS}
    return {"anyOf": [word, {"type": "object", "properties": fields, "minProperties": 1}]}


def digest() -> Json:
    """A message on users/{user}/alerts that stands for many alerts of a storm."""
    return _of_struct(AlertDigest, status={"const": "DIGEST"})


def refusal() -> Json:
    """A message on users/{user}/config/errors and users/{user}/alerts/errors, there also of an obeyed command."""
    return {"anyOf": [_of_struct(RefusalBody), _of_struct(ObeyedBody, status={"const": "obeyed"})]}


def dead_letter() -> Json:
    """The value of a record of the dead-letter topic."""
    return _of_struct(
        Envelope, reason={"enum": [*Reason]}, payload_base64={"type": "string", "contentEncoding": "base64"}
    )


def _of_struct(struct: type[msgspec.Struct], **properties: Json) -> Json:
    (_,), parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    whole = parts.pop(struct.__name__)
    made = {**whole, "properties": {**whole["properties"], **properties}}
    return {**made, "$defs": parts} if parts else made


def _times() -> Json:
    return {name: {"anyOf": [_TIME, _NULL]} for name in ("timestamp", "time")}


def _value(column: Column) -> Json:
    """What a column takes; null, where it need not be there."""
    if column.type.typed is None:  # a decimal
        kind: Json = {"type": ["number", "string"]}
    else:
        kind = msgspec.json.schema(column.type.typed)
    return kind if column.required else {"anyOf": [kind, _NULL]}
