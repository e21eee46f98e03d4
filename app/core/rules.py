"""A user's rules as JSON -> a RuleSet of compiled rules, or every reason why not; and which of them a device has."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from app.core.alerts import Severity
from app.core.columns import in_force
from app.core.conditions import Comparison, Joined, Verdict, comparison, joined
from app.core.fingerprint import fingerprint
from app.core.glob_checks import too_costly
from app.core.globs import Globs
from app.core.intervals import Interval, within
from app.core.model import Reading
from app.core.rule_checks import problems_of

# A user's rules are evaluated on every reading of the user's devices: 200 cost 20 us, nested keys 66.
RULES_MAX = 200
RULES_BYTES_MAX = 1 << 18  # 262144: 200 rules with every text at half its limit
REASONS_MAX = 20
CONDITIONS_MAX = 1_000  # of all rules together; each costs up to 0.3 us a reading
EVERY = ("*",)  # globs of a rule that names no devices

Quiet = Callable[[Reading], bool]
_MICRO = 1_000_000


class Escalation(Struct, frozen=True, gc=False):
    """How bad an alert is once it has been firing for so long."""

    after: int  # microseconds from its FIRING
    severity: Severity


class Flap(Struct, frozen=True, gc=False):
    """How often a rule may fire in a time before it has to stay clear for as long to be over."""

    times: int
    within: int  # microseconds


class Rule(Struct, frozen=True, gc=False):
    """One compiled rule. Durations are microseconds of event time, if nothing else is said; 0 is none."""

    id: str
    message: str
    severity: Severity
    devices: tuple[str, ...]  # ids and globs
    # Of what the rule means: its condition, when that opens and ends an alert, its severity. Not of its id, message or
    # devices, nor of what only decides how often it is told: a change of those keeps open alerts open.
    fingerprint: str
    condition: Comparison | Joined
    # The condition's own, so that asking costs one step less; not to be asked about None.
    read: Callable[[Reading], Any]
    holds: Callable[[Any], Verdict]
    stays: Callable[[Any], Verdict]
    for_time: int = 0
    clear_for: int = 0
    consecutive: int = 1
    cooldown: int = 0
    escalate: Escalation | None = None
    flap: Flap | None = None
    no_data: int = 0  # of arrival, not of event time: an open alert that no reading speaks of for so long is stale


class RuleSet(Struct, frozen=True, gc=False):
    """All rules of a user, in the user's order; ids are unique."""

    user_id: str
    rules: tuple[Rule, ...]
    globs: Globs | None = None  # of all of them together; None where all rules are for every device


class InvalidRules(Struct, frozen=True, gc=False):
    """Rules that are refused whole; each reason names the rule, the field, its value and what would be right."""

    user_id: str
    reasons: tuple[str, ...]


def parse(rules_json: str | bytes, user_id: str, bytes_max: int = RULES_BYTES_MAX) -> RuleSet | InvalidRules:
    """Compile a JSON array of rules, or an object with the array as "rules". Never raises for any text."""
    if len(rules_json) > bytes_max:
        return InvalidRules(user_id, (f"rules: {len(rules_json)} bytes of JSON; at most {bytes_max} are allowed",))
    if not rules_json.strip():
        return InvalidRules(user_id, ("rules: there is nothing; give a JSON array of rules, [] for none",))
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
    reasons = reasons or [*_duplicates(rules), *_too_much(rules)]
    if len(reasons) > REASONS_MAX:
        reasons[REASONS_MAX:] = [f"and {len(reasons) - REASONS_MAX} more problems"]
    return InvalidRules(user_id, tuple(reasons)) if reasons else _compiled(user_id, rules)


def compile_for(ruleset: RuleSet, device_id: str) -> tuple[Rule, ...]:
    """The rules whose `devices` name this device or take it in, in order. Cache it per device and RuleSet."""
    if ruleset.globs is None:
        return ruleset.rules
    hits = ruleset.globs.hits(device_id)  # each glob is looked at once, in however many rules it is
    return tuple(rule for rule in ruleset.rules if not hits.isdisjoint(rule.devices))


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
    keys, bounds = in_force().keys, dict[str, Interval]()
    others, several = [], []
    for rule in rules:
        one = rule.condition
        if isinstance(one, Joined):
            several.append(one.might_hold)
        elif (column := keys.get(one.key)) is None or not column.type.ordered or one.operator == "==":
            others.append(rule)
        else:
            low, high = bounds.get(column.name, (-math.inf, math.inf))
            limit = float(one.threshold)
            bounds[column.name] = (low, min(high, limit)) if one.operator in (">", ">=") else (max(low, limit), high)
    rest, mights = tuple(others), tuple(several)
    usual = within(bounds)
    if not rest and not mights:
        return usual

    def quiet(reading: Reading) -> bool:
        if not usual(reading):
            return False
        if rest and any_holds(rest, reading):
            return False
        for might_hold in mights:  # noqa: SIM110  # a loop costs less than a generator
            if might_hold(reading):
                return False
        return True

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


def _too_much(rules: list[dict[str, Any]]) -> Iterator[str]:
    yield from too_costly("rules", (rule.get("devices") for rule in rules), once=True)
    conditions = sum(len(rule.get("all") or rule.get("any") or "1") for rule in rules)
    if conditions > CONDITIONS_MAX:
        yield f"rules: {conditions} conditions in all rules together; at most {CONDITIONS_MAX} are allowed"


def _compiled(user_id: str, rules: list[dict[str, Any]]) -> RuleSet:
    made = tuple(map(_compile, rules))
    texts = {text for rule in made for text in rule.devices}
    return RuleSet(user_id, made, Globs(texts) if texts.difference(EVERY) else None)


def _compile(rule: dict[str, Any]) -> Rule:
    word = next((word for word in ("all", "any") if rule.get(word)), None)
    condition = joined(rule[word], word) if word else comparison(rule)
    severity = Severity(rule.get("severity") or Severity.WARNING)
    escalate, flap = rule.get("escalate"), rule.get("flap")
    timing = (_micros(rule.get("for_seconds")), _micros(rule.get("clear_for_seconds")), rule.get("consecutive") or 1)
    return Rule(
        id=rule.get("id") or rule["key"],
        message=rule["message"],
        severity=severity,
        devices=tuple(rule.get("devices") or EVERY),
        fingerprint=fingerprint(condition, severity, timing),
        condition=condition,
        read=condition.read,
        holds=condition.holds,
        stays=condition.stays,
        for_time=timing[0],
        clear_for=timing[1],
        consecutive=timing[2],
        cooldown=_micros(rule.get("cooldown_seconds")),
        escalate=escalate and Escalation(_micros(escalate["after_seconds"]), Severity(escalate["severity"])),
        flap=flap and Flap(flap["times"], _micros(flap["within_seconds"])),
        no_data=_micros(rule.get("no_data_seconds")),
    )


def _micros(seconds: float | None) -> int:
    return round((seconds or 0) * _MICRO)
