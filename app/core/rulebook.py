"""The rules in force: user_configs as (user, JSON) in; per device, the compiled rules out."""

from collections.abc import Iterable

from msgspec import Struct

from app.core.rules import InvalidRules, Quiet, Rule, RuleSet, compile_for, parse, quiet_for


class Watch(Struct, frozen=True, gc=False):
    """What is watched on a device; one object for all devices of a user with the same rules."""

    rules: tuple[Rule, ...]
    quiet: Quiet


class RuleBook:
    """Every user's rules. `version` changes whenever any of them does: whoever keeps compiled rules asks again."""

    def __init__(self) -> None:
        self.version = 0
        self._sets: dict[str, RuleSet] = {}
        self._watches: dict[str, dict[tuple[str, ...], Watch]] = {}  # user -> ids of rules -> Watch

    def apply(self, changes: Iterable[tuple[str, str | None]]) -> list[InvalidRules]:
        """Take (user_id, rules as JSON; None: no rules any more). What is refused leaves the user's old rules."""
        refused = []
        for user_id, text in changes:
            found = RuleSet(user_id, ()) if text is None else parse(text, user_id)
            if isinstance(found, InvalidRules):
                refused.append(found)
                continue
            self._watches.pop(user_id, None)
            if found.rules:
                self._sets[user_id] = found
            else:
                self._sets.pop(user_id, None)
        self.version += 1
        return refused

    def rules_for(self, user_id: str, device_id: str) -> tuple[Rule, ...]:
        """The rules that take in this device; empty when there are none."""
        found = self._sets.get(user_id)
        return compile_for(found, device_id) if found else ()

    def watch_for(self, user_id: str, device_id: str) -> Watch:
        """The same, with the quick test that goes with them."""
        rules = self.rules_for(user_id, device_id)
        shared = self._watches.setdefault(user_id, {}) if rules else _NONE
        ids = tuple(rule.id for rule in rules)
        if ids not in shared:
            shared[ids] = Watch(rules, quiet_for(rules))
        return shared[ids]

    @property
    def users(self) -> int:
        """How many users have rules."""
        return len(self._sets)


_NONE: dict[tuple[str, ...], Watch] = {}  # of all users without rules
