"""One compiled rule and the rules of a user; which of them a device has."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from app.core.model.alert_event import Severity
from app.core.model.records import Reading
from app.core.rules.conditions import Comparison, CompoundCondition, Verdict
from app.core.rules.globs import Globs
from app.core.rules.messages import Fill

EVERY = ("*",)  # globs of a rule that names no devices


class Escalation(Struct, frozen=True, gc=False):
    """The severity of an alert that has been firing for so long."""

    after: int  # microseconds from the alert's FIRING
    severity: Severity


class Flap(Struct, frozen=True, gc=False):
    """How often a rule may fire within a time; the alert of a rule beyond that ends only after as long a quiet time."""

    times: int
    within: int  # microseconds


class Quorum(Struct, frozen=True, gc=False):
    """How many of the latest readings have to hold: at least `needed` of the `last`."""

    needed: int
    last: int

    def after(self, recent: int, verdict: bool) -> int:
        """The verdicts on the latest readings as bits, the newest the lowest, after one more."""
        return (recent << 1 | verdict) & ((1 << self.last) - 1)

    def reached(self, recent: int) -> bool:
        """Whether as many of these verdicts hold as have to."""
        return recent.bit_count() >= self.needed


class Rule(Struct, frozen=True, gc=False):
    """One compiled rule. Durations are microseconds of event time, if nothing else is said; 0 is none."""

    id: str
    message: str
    severity: Severity
    devices: tuple[str, ...]  # ids and globs
    # A digest of what the rule means: its condition, when the condition opens and ends an alert, its severity. Not of
    # its id, message or devices, nor of what only decides how often an alert is sent: such a change keeps alerts open.
    fingerprint: str
    condition: Comparison | CompoundCondition
    # The condition's own function, so that a call costs one step less; not to be called with None.
    read: Callable[[Reading], Any]
    holds: Callable[[Any], Verdict]
    stays: Callable[[Any], Verdict]
    for_time: int = 0
    clear_for: int = 0
    consecutive: int = 1
    of: Quorum | None = None  # the rule's condition is one of several readings
    cooldown: int = 0
    escalate: Escalation | None = None
    flap: Flap | None = None
    fill: Fill | None = None  # makes the message of an event; None: it is `message` as it stands
    no_data: int = 0  # of arrival, not of event time: an open alert without a reading for so long is stale


class RuleSet(Struct, frozen=True, gc=False):
    """All rules of a user, in the user's order; ids are unique."""

    user_id: str
    rules: tuple[Rule, ...]
    globs: Globs | None = None  # the globs of all rules together; None where all rules are for every device
    disabled: frozenset[str] = frozenset()  # ids of rules with `"enabled": false`; none of `rules` has one of them


def rule_set(user_id: str, rules: tuple[Rule, ...], disabled: frozenset[str] = frozenset()) -> RuleSet:
    """These rules, whose ids are unique, as one set."""
    texts = {text for rule in rules for text in rule.devices}
    return RuleSet(user_id, rules, Globs(texts) if texts.difference(EVERY) else None, disabled)


def with_defaults(own: RuleSet | None, defaults: RuleSet | None) -> RuleSet | None:
    """A user's own rules, and behind them those of the fleet whose ids the user has not given to another rule, nor
    disabled.
    """
    if own is None or defaults is None:
        return own or defaults
    known = {rule.id for rule in own.rules} | own.disabled
    more = tuple(rule for rule in defaults.rules if rule.id not in known)
    return rule_set(own.user_id, own.rules + more, own.disabled) if more else own


class InvalidRules(Struct, frozen=True, gc=False):
    """Rules that are refused whole; each reason names the rule, the field, its value and what would be right."""

    user_id: str
    reasons: tuple[str, ...]


def compile_for(ruleset: RuleSet, device_id: str) -> tuple[Rule, ...]:
    """The rules whose `devices` name this device or take it in, in order. Callers cache the answer per device and
    RuleSet.
    """
    if ruleset.globs is None:
        return ruleset.rules
    hits = ruleset.globs.hits(device_id)  # each glob is looked at once, in however many rules it is
    return tuple(rule for rule in ruleset.rules if not hits.isdisjoint(rule.devices))
