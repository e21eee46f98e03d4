"""The fields of a rule that say when and how often it alerts -> everything that is wrong with them."""

from collections.abc import Iterator
from typing import Any

from app.core.model.alert_event import Severity
from app.core.rules.condition_checks import Check, is_number, shown

SECONDS_MAX = 30 * 86400
CONSECUTIVE_MAX = 10_000
LAST_MAX = 60  # of `of`; so many verdicts are kept as the bits of one number
NOT_BESIDE_OF = ("consecutive", "for_seconds")  # they count what holds without a break
TIMES_MAX = 50  # of flap; so many times are kept in the device's state


def seconds(field: str) -> Check:
    """The check of a field that is a duration in seconds."""
    return lambda rule: _seconds(rule[field])


def consecutive(rule: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `consecutive`."""
    yield from _whole(rule["consecutive"], 1, CONSECUTIVE_MAX)


def of(rule: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `of`."""
    value = rule["of"]
    if not isinstance(value, list) or len(value) != 2 or any(list(_whole(one, 1, LAST_MAX)) for one in value):
        yield f"{shown(value)} is not two whole numbers from 1 to {LAST_MAX}, such as [3, 5]: 3 of the last 5 readings"
    elif value[0] > value[1]:
        yield f"{shown(value)}: of the last {value[1]} readings there cannot be {value[0]}; write the smaller one first"
    for field in NOT_BESIDE_OF:
        if field in rule:
            yield f"not beside {field}; leave out one of the two"


def no_data(rule: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `no_data_seconds`."""
    yield from _some_seconds(rule["no_data_seconds"])


def escalate(rule: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `escalate`."""
    value = rule["escalate"]
    if not isinstance(value, dict) or value.keys() != {"after_seconds", "severity"}:
        yield f'{shown(value)} is not an object such as {{"after_seconds": 600, "severity": "critical"}}'
        return
    yield from (f"after_seconds: {problem}" for problem in _some_seconds(value["after_seconds"]))
    worse, ranks = value["severity"], list(Severity)
    begins = rule.get("severity", Severity.WARNING)
    if worse not in ranks:
        yield f"severity: {shown(worse)} is not one of {', '.join(Severity)}"
    elif begins in ranks and ranks.index(worse) <= ranks.index(begins):
        yield f"severity: {shown(worse)} is not above the rule's own severity, {begins}"


def flap(rule: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `flap`."""
    value = rule["flap"]
    if not isinstance(value, dict) or value.keys() != {"times", "within_seconds"}:
        yield f'{shown(value)} is not an object such as {{"times": 3, "within_seconds": 600}}'
        return
    yield from (f"times: {problem}" for problem in _whole(value["times"], 1, TIMES_MAX))
    yield from (f"within_seconds: {problem}" for problem in _some_seconds(value["within_seconds"]))


def _seconds(value: Any) -> Iterator[str]:
    if not is_number(value) or not 0 <= value <= SECONDS_MAX:
        yield f"{shown(value)} is not a number of seconds from 0 to {SECONDS_MAX}"


def _some_seconds(value: Any) -> Iterator[str]:
    if value == 0:
        yield f"0 is not a number of seconds above 0, up to {SECONDS_MAX}"
    else:
        yield from _seconds(value)


def _whole(value: Any, least: int, most: int) -> Iterator[str]:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        yield f"{shown(value)} is not a whole number from {least} to {most}"
