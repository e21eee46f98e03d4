"""One rule as decoded JSON -> everything that is wrong with it, in words for the person who wrote it."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from app.core.model.alert_event import MASS_RULE_ID, OFFLINE_RULE_ID, Severity
from app.core.rules import condition_checks as conditions
from app.core.rules import timing_checks as timing
from app.core.rules.condition_checks import Check, globs, shown
from app.core.schema.schema import Schema

ID_MAX = 200  # characters; part of the primary key of active_alerts, whose index takes 2704 bytes
MESSAGE_MAX = 1000

JOINING = ("all", "any")
RESERVED = (OFFLINE_RULE_ID, MASS_RULE_ID)


def checks_of_rule(schema: Schema) -> dict[str, Check]:
    """The check of each field that a rule may have, for rules about readings of `schema`."""
    of_condition = conditions.checks_of_condition(schema)
    return {
        "key": conditions.key, "operator": conditions.operator, "threshold": of_condition["threshold"],
        "message": _message, "id": _id, "severity": _severity, "clear_threshold": conditions.clear_threshold,
        "devices": _devices, "enabled": _enabled, "all": conditions.several("all", of_condition),
        "any": conditions.several("any", of_condition), "for_seconds": timing.seconds("for_seconds"),
        "clear_for_seconds": timing.seconds("clear_for_seconds"), "consecutive": timing.consecutive,
        "of": timing.of, "cooldown_seconds": timing.seconds("cooldown_seconds"), "escalate": timing.escalate,
        "flap": timing.flap, "no_data_seconds": timing.no_data,
    }  # fmt: skip


def problems_of(rule: Any, checks: Mapping[str, Check]) -> Iterator[str]:
    """Yield each problem as `.field: value is not what would be right`; nothing for a rule that can be compiled.

    `checks` come from `checks_of_rule`. Optional fields that are null count as absent.
    """
    if not isinstance(rule, dict):
        yield f": {shown(rule)} is not an object; {_EXAMPLE}"
        return
    for field in rule:
        yield from _unknown(field, checks)
    given = {field: value for field, value in rule.items() if value is not None}
    for field, problems in checks.items():
        if field in given:
            yield from (f".{field}: {problem}" for problem in problems(given))
    if (name := given.get("id", given.get("key"))) in RESERVED:
        yield f".id: {shown(name)} is the name of alerts that the program makes itself; choose another one"
    if given.get("enabled") is False:
        if not given.keys() & {"id", "key"}:
            yield ".id: missing; which rule is disabled?"
        return
    joining = given.keys() & set(JOINING)
    for field in ("id", "message") if joining else (*conditions.REQUIRED, "message"):
        if field not in given:
            yield f".{field}: missing; {_EXAMPLE if not joining else 'a rule of several conditions needs it'}"
    if joining:
        yield from _alone(given, max(joining))


def _alone(given: dict[str, Any], word: str) -> Iterator[str]:
    """A rule is one condition, or `all`, or `any`."""
    for field in given.keys() & {*conditions.CONDITION, *JOINING} - {word}:
        yield f".{field}: not beside {word}; put it into the conditions there, or leave it out"


def _unknown(field: str, known: Mapping[str, Check]) -> Iterator[str]:
    if field not in known:
        close = get_close_matches(field, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        yield f".{shown(field)[1:-1]}: unknown field; {hint}"


def _message(rule: dict[str, Any]) -> Iterator[str]:
    value = rule["message"]
    if not isinstance(value, str) or len(value) > MESSAGE_MAX or "\0" in value:
        yield f"{shown(value)} is not a text of at most {MESSAGE_MAX} characters without NUL"


def _id(rule: dict[str, Any]) -> Iterator[str]:
    value = rule["id"]
    if not isinstance(value, str) or not 1 <= len(value) <= ID_MAX or not value.isprintable():
        yield f"{shown(value)} is not a text of 1 to {ID_MAX} printable characters"


def _severity(rule: dict[str, Any]) -> Iterator[str]:
    if rule["severity"] not in list(Severity):
        yield f"{shown(rule['severity'])} is not one of {', '.join(Severity)}"


def _enabled(rule: dict[str, Any]) -> Iterator[str]:
    if not isinstance(rule["enabled"], bool):
        yield f"{shown(rule['enabled'])} is not true or false"


def _devices(rule: dict[str, Any]) -> Iterator[str]:
    yield from globs(rule["devices"])


_EXAMPLE = 'a rule is for example {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}'
