"""The rules in effect: user_configs as (user, JSON) in; per device, the compiled rules out."""

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from msgspec import Struct

from app.core.model.namespaces import user_of
from app.core.rules.maintenance import MaintenanceWindow, Span, spans_of, within
from app.core.rules.prefilter import Prefilter, prefilter_for
from app.core.rules.rule import EVERY, InvalidRules, Rule, RuleSet, compile_for
from app.core.sampling.compile import UserSampling, sampling_for, with_rules
from app.core.sampling.policy import Sampling
from app.core.schema.schema import Schema
from app.core.user_config.document import STORED_BYTES_MAX, Config, parse_config

# DeviceRules kept of one user whose devices have different rules. A user who invents names for globs can ask for new
# DeviceRules each time, each of some kilobytes; forgotten DeviceRules live on with their devices, which are bounded.
WATCHES_MAX = 1_000


class DeviceRules(Struct, frozen=True, gc=False):
    """What is watched on a device; one object for all devices of a user with the same rules."""

    rules: tuple[Rule, ...]
    quiet: Prefilter
    no_data: dict[str, float]  # seconds, by rule id, of rules with no_data_seconds
    maintenance: tuple[Span, ...] = ()
    sampling: Sampling | None = None


class RuleBook:
    """Every user's rules, compiled for readings of one schema.

    `version` changes whenever any user's rules do: a caller that keeps compiled rules asks again.
    """

    def __init__(self, schema: Schema) -> None:
        self.version = 0
        self._schema = schema
        self._sets: dict[str, RuleSet] = {}
        self._windows: dict[str, tuple[MaintenanceWindow, ...]] = {}
        self._samplings: dict[str, UserSampling] = {}
        self._watches: dict[str, dict[_Same, DeviceRules]] = {}  # by user
        self._without_rules: dict[_Same, DeviceRules] = {}  # of all users without rules
        self._alike: dict[str, DeviceRules] = {}  # of users all of whose devices have the same rules
        self._versions: dict[str, int] = {}  # by user: the version that changed what the user has

    def apply(self, changes: Iterable[tuple[str, str | None]]) -> list[InvalidRules]:
        """Take (user_id, configuration as JSON; None: removed). A refused configuration leaves what the user had.

        Returns a refusal for each configuration that cannot be compiled.
        """
        refused = []
        self.version += 1
        for user_id, text in changes:
            found = Config() if text is None else parse_config(text, user_id, self._schema, STORED_BYTES_MAX)
            if isinstance(found, InvalidRules):
                refused.append(found)
                continue
            self._watches.pop(user_id, None)
            self._alike.pop(user_id, None)
            _put(self._sets, user_id, found.rules if found.rules and found.rules.rules else None)
            _put(self._windows, user_id, found.windows)
            _put(self._samplings, user_id, with_rules(found.sampling, found.rules, self._schema))
            self._versions[user_id] = self.version
        return refused

    def changed_since(self, user_id: str, version: int) -> bool:
        """Whether what is watched of a user's devices may be another than at that version."""
        return self._versions.get(user_id, 0) > version

    def rules_for(self, user_id: str, device_id: str) -> tuple[Rule, ...]:
        """The rules that take in this device; empty when there are none."""
        found = self._sets.get(user_id)
        return compile_for(found, device_id) if found else ()

    def watch_for(self, user_id: str, device_id: str) -> DeviceRules:
        """The rules that take in this device, with the quick test that goes with them."""
        alike = self._alike.get(user_id)
        if alike is not None:
            return alike
        rules = self.rules_for(user_id, device_id)
        asked = self._samplings.get(user_id)
        sampling = sampling_for(asked, rules, device_id) if asked else None
        shared = self._watches.setdefault(user_id, {}) if rules or sampling else self._without_rules
        spans = spans_of(self._windows.get(user_id, ()), device_id) if rules else ()
        same = tuple(rule.id for rule in rules), spans, sampling
        if same not in shared:
            if len(shared) >= WATCHES_MAX:
                shared.clear()
            no_data = {rule.id: rule.no_data / 1_000_000 for rule in rules if rule.no_data}
            shared[same] = DeviceRules(rules, prefilter_for(rules, self._schema), no_data, spans, sampling)
        if self._names_no_device(user_id):
            self._alike[user_id] = shared[same]
        return shared[same]

    def _names_no_device(self, user_id: str) -> bool:
        """Whether the user has rules, and nothing that the name of a device decides."""
        if user_id not in self._sets or user_id in self._windows or user_id in self._samplings:
            return False
        return all(rule.devices == EVERY for rule in self._sets[user_id].rules)

    def in_maintenance(self, name: tuple[str, str], seconds: float) -> bool:
        """Whether a device (owner, device) is in a maintenance window at event time `seconds` since 1970."""
        return within(self._windows.get(user_of(name[0]), ()), name[1], int(seconds * 1_000_000))

    def some_users(self) -> list[str]:
        """Two users who have rules, or as many as there are."""
        return list(islice(self._sets, 2))

    @property
    def users(self) -> int:
        """How many users have rules."""
        return len(self._sets)


# Ids of rules, maintenance and sampling: equal for devices that share a DeviceRules.
_Same = tuple[tuple[str, ...], tuple[Span, ...], Sampling | None]
_T = TypeVar("_T")


def _put(kept: dict[str, _T], user_id: str, value: _T | None) -> None:
    if value:
        kept[user_id] = value
    else:
        kept.pop(user_id, None)
