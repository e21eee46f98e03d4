"""The rules in force: user_configs as (user, JSON) in; per device, the compiled rules out."""

from collections.abc import Iterable

from app.core.rules import InvalidRules, Rule, RuleSet, compile_for, parse


class RuleBook:
    """Every user's rules. `version` changes whenever any of them does: whoever keeps compiled rules asks again."""

    def __init__(self) -> None:
        self.version = 0
        self._sets: dict[str, RuleSet] = {}

    def apply(self, changes: Iterable[tuple[str, str | None]]) -> list[InvalidRules]:
        """Take (user_id, rules as JSON; None: no rules any more). What is refused leaves the user's old rules."""
        refused = []
        for user_id, text in changes:
            found = RuleSet(user_id, ()) if text is None else parse(text, user_id)
            if isinstance(found, InvalidRules):
                refused.append(found)
            elif found.rules:
                self._sets[user_id] = found
            else:
                self._sets.pop(user_id, None)
        self.version += 1
        return refused

    def rules_for(self, user_id: str, device_id: str) -> tuple[Rule, ...]:
        """The rules that take in this device; empty when there are none."""
        found = self._sets.get(user_id)
        return compile_for(found, device_id) if found else ()

    @property
    def users(self) -> int:
        """How many users have rules."""
        return len(self._sets)
