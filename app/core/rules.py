"""A user's rules as JSON -> a RuleSet of compiled rules, or every reason why not; and which of them a device has."""

import math
import operator
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from app.core.alerts import Severity, Value
from app.core.model import Reading
from app.core.readers import COLUMNS, Kind, Read, reader
from app.core.rule_checks import problems_of

# A user's rules are evaluated on every reading of the user's devices: 200 cost 20 us, nested keys 66.
RULES_MAX = 200
RULES_BYTES_MAX = 1 << 18  # 262144: 200 rules with every text at half its limit
REASONS_MAX = 20

Condition = Callable[[Any], bool]
Quiet = Callable[[Reading], bool]

# `value > threshold` is `threshold < value`: with the threshold first, functools.partial makes a C function of it,
# which costs 30 ns a call where a lambda costs 50.
_SWAPPED: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.lt, "<": operator.gt, ">=": operator.le, "<=": operator.ge, "==": operator.eq,
}  # fmt: skip


class Rule(Struct, frozen=True, gc=False):
    """One compiled rule. `holds` and `stays` take what `read` gave and must not be asked about None."""

    id: str
    key: str
    operator: str
    threshold: Value
    message: str
    severity: Severity
    devices: tuple[str, ...]  # globs
    fingerprint: str  # of what the rule means: key, operator, thresholds, severity; not of its id, message or devices
    read: Read
    holds: Condition  # opens an episode
    stays: Condition  # keeps it open: the same operator on clear_threshold when there is one


class RuleSet(Struct, frozen=True, gc=False):
    """All rules of a user, in the user's order; ids are unique."""

    user_id: str
    rules: tuple[Rule, ...]


class InvalidRules(Struct, frozen=True, gc=False):
    """Rules that are refused whole; each reason names the rule, the field, its value and what would be right."""

    user_id: str
    reasons: tuple[str, ...]


def parse(rules_json: str | bytes, user_id: str) -> RuleSet | InvalidRules:
    """Compile a JSON array of rules, or an object with the array as "rules". Never raises for any text."""
    if len(rules_json) > RULES_BYTES_MAX:
        return InvalidRules(
            user_id, (f"rules: {len(rules_json)} bytes of JSON; at most {RULES_BYTES_MAX} are allowed",)
        )
    try:
        document = msgspec.json.decode(rules_json)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return InvalidRules(user_id, (f"rules: not JSON: {error}",))
    rules = document.get("rules") if isinstance(document, dict) else document
    if not isinstance(rules, list):
        return InvalidRules(user_id, ('rules: give a JSON array of rules, or an object {"rules": [...]}',))
    if len(rules) > RULES_MAX:
        return InvalidRules(user_id, (f"rules: {len(rules)} rules; at most {RULES_MAX} are allowed",))
    reasons = [f"rules[{index}]{problem}" for index, rule in enumerate(rules) for problem in problems_of(rule)]
    reasons = reasons or _duplicates(rules)
    if len(reasons) > REASONS_MAX:
        reasons[REASONS_MAX:] = [f"and {len(reasons) - REASONS_MAX} more problems"]
    return InvalidRules(user_id, tuple(reasons)) if reasons else RuleSet(user_id, tuple(map(_compile, rules)))


def compile_for(ruleset: RuleSet, device_id: str) -> tuple[Rule, ...]:
    """The rules whose `devices` globs take in this device, in order. Cache it per device and RuleSet."""
    return tuple(rule for rule in ruleset.rules if any(fnmatchcase(device_id, glob) for glob in rule.devices))


def any_holds(rules: tuple[Rule, ...], reading: Reading) -> bool:
    """Whether any rule's condition holds: what is asked on every reading of a device without open episodes.

    False is certain; True may still be a value that cannot be reported (an integer beyond float64).
    """
    for rule in rules:
        value = rule.read(reading)
        if value is not None and rule.holds(value):
            return True
    return False


def quiet_for(rules: tuple[Rule, ...]) -> Quiet:
    """A quick test whether certainly none of `rules` holds: what is asked on every reading of a device at rest.

    Thresholds on a column become one open interval, so most readings cost two comparisons a column (0.15 us instead
    of 0.3 us a rule); a value on or beyond its border is for any_holds to judge, and so are all other rules.
    """
    low = {column: -math.inf for column in COLUMNS}
    high = {column: math.inf for column in COLUMNS}
    others = []
    for rule in rules:
        bound = rule.threshold
        if rule.key not in low or rule.operator == "==" or isinstance(bound, str | bool):
            others.append(rule)
        elif rule.operator in (">", ">="):
            high[rule.key] = min(high[rule.key], bound)
        else:
            low[rule.key] = max(low[rule.key], bound)
    cold, hot, empty, full = low["temperature"], high["temperature"], low["battery"], high["battery"]
    rest = tuple(others)

    def quiet(reading: Reading) -> bool:
        temperature = reading.temperature
        if temperature is not None and not cold < temperature < hot:
            return False
        battery = reading.battery
        if battery is not None and not empty < battery < full:
            return False
        return not rest or not any_holds(rest, reading)

    return quiet


def _duplicates(rules: list[dict[str, Any]]) -> list[str]:
    first: dict[str, int] = {}
    reasons = []
    for index, rule in enumerate(rules):
        name = rule.get("id") or rule["key"]
        if name in first:
            reasons.append(f'rules[{index}].id: "{name}" is rules[{first[name]}] already (an id defaults to the key); '
                           f"give each rule its own id")  # fmt: skip
        first.setdefault(name, index)
    return reasons


def _compile(rule: dict[str, Any]) -> Rule:
    threshold, clear = rule["threshold"], rule.get("clear_threshold")
    severity = Severity(rule.get("severity") or Severity.WARNING)
    compare = _SWAPPED[rule["operator"]]
    kind: Kind = "text" if isinstance(threshold, str) else "truth" if isinstance(threshold, bool) else "number"
    return Rule(
        id=rule.get("id") or rule["key"],
        key=rule["key"],
        operator=rule["operator"],
        threshold=threshold,
        message=rule["message"],
        severity=severity,
        devices=tuple(rule.get("devices") or ("*",)),
        fingerprint=_fingerprint(rule["key"], rule["operator"], threshold, clear, severity),
        read=reader(rule["key"], kind),
        holds=partial(compare, threshold),
        stays=partial(compare, threshold if clear is None else clear),
    )


def _fingerprint(*meaning: Value | None) -> str:
    """Equal for equal meanings: 80 and 80.0 are the same threshold."""
    plain = [int(part) if isinstance(part, float) and part.is_integer() else part for part in meaning]
    return blake2b(msgspec.json.encode(plain), digest_size=8).hexdigest()
