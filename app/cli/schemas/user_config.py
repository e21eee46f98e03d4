"""The JSON Schema of a user's configuration: rules, maintenance windows and sampling, with the limits of the checks.

A schema cannot say all: that ids are unique, that a clear_threshold lies on the right side, how many globs there are
together. So it takes every configuration that the workers take, and few others; `iot-stream rules check` says the rest.
"""

from typing import Any

from app.core.model.alert_event import Severity
from app.core.rules import condition_checks as conditions
from app.core.rules import maintenance, parse, rule_checks, timing_checks, window_keys
from app.core.rules.field_readers import TEXT_MAX
from app.core.sampling import checks as sampling

Json = dict[str, Any]

_NUMBER: Json = {"type": "number"}
_SECONDS: Json = {"type": "number", "minimum": 0, "maximum": timing_checks.SECONDS_MAX}
_SOME_SECONDS: Json = {"type": "number", "exclusiveMinimum": 0, "maximum": timing_checks.SECONDS_MAX}
_GLOBS: Json = {
    "type": "array", "minItems": 1, "maxItems": conditions.DEVICES_MAX,
    "items": {"type": "string", "minLength": 1, "maxLength": conditions.GLOB_MAX},
}  # fmt: skip
_KEY: Json = {"type": "string", "minLength": 1, "pattern": r'^[^"\\\u0000-\u001f]+$'}
_CONDITION: Json = {
    "key": {**_KEY, "description": "a field of the payload, engine.oil.temp, or avg(temperature,60s)"},
    "operator": {"enum": list(conditions.OPERATORS)},
    "threshold": {"anyOf": [_NUMBER, {"type": "boolean"}, {"type": "string", "maxLength": TEXT_MAX}]},
    "clear_threshold": _NUMBER,
}
_ID: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": rule_checks.ID_MAX,
    "not": {"enum": [*rule_checks.RESERVED]},
}
_WORDS: Json = {"type": "string", "maxLength": rule_checks.MESSAGE_MAX}


def user_config() -> Json:
    """What is in user_configs.rules and in messages to users/{user}/config: an array of rules, or an object with rules,
    maintenance and sampling, of which it may leave out some.
    """
    parts = {"rules": {"$ref": "#/$defs/rules"}, "maintenance": _maintenance(), "sampling": _sampling()}
    return {
        "anyOf": [{"$ref": "#/$defs/rules"}, {"type": "object", "properties": parts, "minProperties": 1}],
        "$defs": {
            "rules": {"type": "array", "maxItems": parse.RULES_MAX, "items": {"$ref": "#/$defs/rule"}},
            "rule": rule(),
            "condition": _object(_CONDITION, conditions.REQUIRED),
        },
    }


def rule() -> Json:
    """One rule: a condition, or `all` or `any` of several, with its words and times. Its fields are those of
    rule_checks.
    """
    made = _object(_fields(), ())
    made["if"] = {"required": ["enabled"], "properties": {"enabled": {"const": False}}}
    made["then"] = {"anyOf": [_given(("id",), but_not=()), _given(("key",), but_not=())]}
    conditions_of_one = [
        _given(conditions.REQUIRED, but_not=rule_checks.JOINING),
        _given(("id", "all"), but_not=(*conditions.CONDITION, "any")),
        _given(("id", "any"), but_not=(*conditions.CONDITION, "all")),
    ]
    made["else"] = _given(("message",), but_not=()) | {"oneOf": conditions_of_one}
    made["not"] = {"anyOf": [_given(("of", field), but_not=()) for field in timing_checks.NOT_BESIDE_OF]}
    return made


def _fields() -> Json:
    several = {
        "type": "array", "minItems": 1, "maxItems": conditions.PARTS_MAX, "items": {"$ref": "#/$defs/condition"},
    }  # fmt: skip
    return {
        **_CONDITION,
        "message": _WORDS,
        "id": {
            "type": "string",
            "minLength": 1,
            "maxLength": rule_checks.ID_MAX,
            "not": {"enum": [*rule_checks.RESERVED]},
        },
        "severity": {"enum": list(Severity)},
        "devices": _GLOBS,
        "enabled": {"type": "boolean"},
        "all": several,
        "any": several,
        "for_seconds": _SECONDS,
        "clear_for_seconds": _SECONDS,
        "cooldown_seconds": _SECONDS,
        "no_data_seconds": _SOME_SECONDS,
        "consecutive": {"type": "integer", "minimum": 1, "maximum": timing_checks.CONSECUTIVE_MAX},
        "of": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": timing_checks.LAST_MAX},
            "minItems": 2,
            "maxItems": 2,
        },
        "escalate": _whole({"after_seconds": _SOME_SECONDS, "severity": {"enum": list(Severity)[1:]}}),
        "flap": _whole(
            {
                "times": {"type": "integer", "minimum": 1, "maximum": timing_checks.TIMES_MAX},
                "within_seconds": _SOME_SECONDS,
            }
        ),
    }


def _maintenance() -> Json:
    time = {"type": "string", "format": "date-time"}
    note = {"type": "string", "maxLength": maintenance.NOTE_MAX}
    window = _object({"from": time, "until": time, "devices": _GLOBS, "note": note}, ("from", "until"))
    return {"type": "array", "maxItems": maintenance.WINDOWS_MAX, "items": window}


def _sampling() -> Json:
    width = {"type": "number", "minimum": 0}
    band = {
        "type": "object", "minProperties": 1, "additionalProperties": False,
        "properties": {"absolute": width, "percent": width},
    }  # fmt: skip
    bands = {"type": "object", "minProperties": 1, "maxProperties": sampling.BANDS_MAX, "additionalProperties": band}
    heartbeat = {"type": "integer", "minimum": 1, "maximum": sampling.HEARTBEAT_MAX}
    seconds = {"type": "integer", "minimum": 1, "maximum": window_keys.SECONDS_MAX}
    policy = _object({"keys": bands, "heartbeat_seconds": heartbeat, "devices": _GLOBS}, ("keys", "heartbeat_seconds"))
    average = _object({"key": _KEY, "seconds": seconds, "devices": _GLOBS}, ("key", "seconds"))
    return _object(
        {
            "cov": {"type": "array", "maxItems": sampling.POLICIES_MAX, "items": policy},
            "averages": {"type": "array", "maxItems": sampling.AVERAGES_MAX, "items": average},
        },
        (),
    )


def _object(fields: Json, required: tuple[str, ...]) -> Json:
    """An object of these fields alone; one that is not required may be null, which counts as absent."""
    shown = {
        name: field if name in required else {"anyOf": [field, {"type": "null"}]} for name, field in fields.items()
    }
    return {"type": "object", "properties": shown, "required": [*required], "additionalProperties": False}


def _whole(fields: Json) -> Json:
    return {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}


def _given(names: tuple[str, ...], but_not: tuple[str, ...]) -> Json:
    """Fields that have to be there, and not null; and fields that are absent or null."""
    absent: Json = {name: {"type": "null"} for name in but_not}
    return {"required": [*names], "properties": {name: {"not": {"type": "null"}} for name in names} | absent}
