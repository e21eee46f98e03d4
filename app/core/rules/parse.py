"""A user's rules as JSON -> a RuleSet of compiled rules, or every reason why not; and which of them a device has."""

from collections.abc import Iterator
from typing import Any

import msgspec

from app.core.model.alert_event import Severity
from app.core.rules.condition_checks import too_costly
from app.core.rules.conditions import comparison, compound_condition
from app.core.rules.fingerprint import fingerprint
from app.core.rules.messages import fill_of, placeholders
from app.core.rules.rule import EVERY, Escalation, Flap, InvalidRules, Quorum, Rule, RuleSet, rule_set
from app.core.rules.rule_checks import checks_of_rule, problems_of
from app.core.schema.schema import Schema

# A user's rules are evaluated on every reading of the user's devices: 200 rules cost 20 us, with nested keys 66 us.
RULES_MAX = 200
RULES_BYTES_MAX = 1 << 18  # 262144: 200 rules with every text at half its limit
REASONS_MAX = 20
CONDITIONS_MAX = 1_000  # of all rules together; each costs up to 0.3 us a reading
PLACEHOLDERS_MAX = 1_000  # in the messages of all rules together; each costs up to 0.7 us an alert

_MICRO = 1_000_000


def parse(
    rules_json: str | bytes, user_id: str, schema: Schema, bytes_max: int = RULES_BYTES_MAX
) -> RuleSet | InvalidRules:
    """Compile a JSON array of rules, or an object with the array as "rules", for readings of `schema`.

    Never raises, whatever the text.
    """
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
    checks = checks_of_rule(schema)
    reasons = [f"rules[{index}]{problem}" for index, rule in enumerate(rules) for problem in problems_of(rule, checks)]
    reasons = reasons or [*_duplicates(rules), *_too_much(rules)]
    if len(reasons) > REASONS_MAX:
        reasons[REASONS_MAX:] = [f"and {len(reasons) - REASONS_MAX} more problems"]
    return InvalidRules(user_id, tuple(reasons)) if reasons else _compiled(user_id, rules, schema)


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
    filled = sum(placeholders(rule.get("message") or "") for rule in rules)
    if filled > PLACEHOLDERS_MAX:
        yield f"rules: {filled} placeholders in all messages together; at most {PLACEHOLDERS_MAX} are allowed"


def _compiled(user_id: str, rules: list[dict[str, Any]], schema: Schema) -> RuleSet:
    made = tuple(_compile(rule, schema) for rule in rules if rule.get("enabled") is not False)
    disabled = frozenset(rule.get("id") or rule["key"] for rule in rules if rule.get("enabled") is False)
    return rule_set(user_id, made, disabled)


def _compile(rule: dict[str, Any], schema: Schema) -> Rule:
    word = next((word for word in ("all", "any") if rule.get(word)), None)
    condition = compound_condition(rule[word], word, schema) if word else comparison(rule, schema)
    severity = Severity(rule.get("severity") or Severity.WARNING)
    escalate, flap = rule.get("escalate"), rule.get("flap")
    timing = (_micros(rule.get("for_seconds")), _micros(rule.get("clear_for_seconds")), rule.get("consecutive") or 1)
    return Rule(
        id=rule.get("id") or rule["key"],
        message=rule["message"],
        severity=severity,
        devices=tuple(rule.get("devices") or EVERY),
        fingerprint=fingerprint(condition, severity, timing, rule.get("of")),
        condition=condition,
        read=condition.read,
        holds=condition.holds,
        stays=condition.stays,
        for_time=timing[0],
        clear_for=timing[1],
        consecutive=timing[2],
        of=Quorum(*rule["of"]) if rule.get("of") else None,
        cooldown=_micros(rule.get("cooldown_seconds")),
        escalate=escalate and Escalation(_micros(escalate["after_seconds"]), Severity(escalate["severity"])),
        flap=flap and Flap(flap["times"], _micros(flap["within_seconds"])),
        fill=fill_of(rule["message"], schema),
        no_data=_micros(rule.get("no_data_seconds")),
    )


def _micros(seconds: float | None) -> int:
    return round((seconds or 0) * _MICRO)
