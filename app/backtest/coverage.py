"""Which of the rules the readings of a test have tried: how far each rule came, and why one never fired."""

from msgspec import Struct

from app.core.model.alert_event import AlertEvent, Status
from app.core.model.records import Reading
from app.core.rules.rule import Rule, RuleSet


class RuleCoverage(Struct):
    """What one rule has seen of the readings; late readings count for nothing."""

    rule_id: str
    devices: int = 0  # that the rule is for
    readings: int = 0  # with a value that the rule can judge
    held: int = 0  # of these, readings for which its condition held
    fired: int = 0  # alerts
    resolved: int = 0  # alerts

    @property
    def missing(self) -> str:
        """Why the rule has not fired, in words; empty when it has."""
        if self.fired:
            return ""
        if not self.devices:
            return "no device of the readings is in its devices"
        if not self.readings:
            return "no reading says anything about its condition"
        if not self.held:
            return f"its condition never held in {self.readings} readings"
        return f"its condition held in {self.held} of {self.readings} readings, which was never enough to fire"


class Coverage:
    """The figures of all rules of a set, in its order."""

    def __init__(self, rules: RuleSet) -> None:
        self.rules = [RuleCoverage(rule.id) for rule in rules.rules]
        self._by_id = {one.rule_id: one for one in self.rules}

    def add_device(self, rules: tuple[Rule, ...]) -> None:
        """Count a device; `rules` are those for it."""
        for rule in rules:
            self._by_id[rule.id].devices += 1

    def add_reading(self, reading: Reading, rules: tuple[Rule, ...]) -> None:
        """Count a reading that is not late, with the figures of its windows; `rules` are those of its device."""
        for rule in rules:
            value = rule.read(reading)
            verdict = None if value is None else rule.holds(value)
            if verdict is not None:
                one = self._by_id[rule.id]
                one.readings += 1
                one.held += verdict

    def add_event(self, event: AlertEvent) -> None:
        """Count an event of one of the rules."""
        one = self._by_id[event.rule_id]
        one.fired += event.status is Status.FIRING and not event.repeat
        one.resolved += event.status is Status.RESOLVED

    @property
    def fired(self) -> int:
        """How many rules have fired."""
        return sum(one.fired > 0 for one in self.rules)
