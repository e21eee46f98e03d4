"""The rules in effect: user_configs as (user, JSON) in; per device, the compiled rules out."""

from collections.abc import Iterable
from itertools import islice

import msgspec
from msgspec import Struct

from app.core.model.namespaces import FLEET, user_of
from app.core.rules.maintenance import Span, spans_of, within
from app.core.rules.mutes import Mute, muted_until, mutes_of
from app.core.rules.prefilter import Prefilter, prefilter_for
from app.core.rules.rule import InvalidRules, Rule, compile_for
from app.core.sampling.compile import UserSampling, sampling_for
from app.core.sampling.policy import Sampling
from app.core.schema.schema import Schema
from app.core.user_config.document import STORED_BYTES_MAX, Config, parse_config
from app.core.user_config.fleet import InForce, in_force

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
    mutes: tuple[Mute, ...] = ()


class RuleBook:
    """Every user's rules, compiled for readings of one schema. What the user FLEET has holds for everybody.

    `version` changes whenever any user's rules do: a caller that keeps compiled rules asks again.
    """

    def __init__(self, schema: Schema) -> None:
        self.version = 0
        self._schema = schema
        self._own: dict[str, InForce] = {}  # of users with a configuration or with mutes, and of FLEET
        self._with_rules: dict[str, None] = {}  # users of `_own` but FLEET, in their order
        self._in_force: dict[str, InForce] = {}  # `_own` with the fleet's, made when it is asked for
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
            self._forget(user_id)
            self._keep(user_id, found)
            self._versions[user_id] = self.version
        return refused

    def mute(self, user_id: str, mutes: tuple[Mute, ...]) -> None:
        """Take all mutes of a user, in place of those that the user had; they outlast every edit of the rules."""
        own = self._own.get(user_id, InForce())
        if own.mutes == mutes:
            return
        self.version += 1
        self._versions[user_id] = self.version
        self._forget(user_id)
        self._put(user_id, msgspec.structs.replace(own, mutes=mutes))

    def _put(self, user_id: str, own: InForce) -> None:
        if own.rules or own.windows or own.sampling or own.mutes:
            self._own[user_id] = own
        else:
            self._own.pop(user_id, None)

    def _keep(self, user_id: str, found: Config) -> None:
        rules = found.rules if found.rules and (found.rules.rules or found.rules.disabled) else None
        mutes = self._own.get(user_id, InForce()).mutes
        self._with_rules.pop(user_id, None)
        self._put(user_id, InForce(rules, found.windows or (), found.sampling or UserSampling(), mutes))
        if rules and rules.rules and user_id != FLEET:
            self._with_rules[user_id] = None

    def _forget(self, user_id: str) -> None:
        """Forget what was made of the configuration of a user; the fleet's is in everybody's."""
        for made in (self._watches, self._alike, self._in_force):
            if user_id == FLEET:
                made.clear()
            else:
                made.pop(user_id, None)

    def changed_since(self, user_id: str, version: int) -> bool:
        """Whether what is watched of a user's devices may be another than at that version."""
        return self._versions.get(user_id, 0) > version or self._versions.get(FLEET, 0) > version

    def in_force(self, user_id: str) -> InForce:
        """What the devices of this user go by; of users without a configuration one object."""
        name = user_id if user_id in self._own else FLEET
        found = self._in_force.get(name)
        if found is None:
            own = InForce() if name == FLEET else self._own[name]
            found = self._in_force[name] = in_force(own, self._own.get(FLEET, InForce()), self._schema)
        return found

    def rules_for(self, user_id: str, device_id: str) -> tuple[Rule, ...]:
        """The rules that take in this device; empty when there are none."""
        found = self.in_force(user_id).rules
        return compile_for(found, device_id) if found else ()

    def watch_for(self, user_id: str, device_id: str) -> DeviceRules:
        """The rules that take in this device, with the quick test that goes with them."""
        name = user_id if user_id in self._own else FLEET
        alike = self._alike.get(name)
        if alike is not None:
            return alike
        given = self.in_force(user_id)
        rules = compile_for(given.rules, device_id) if given.rules else ()
        sampling = sampling_for(given.sampling, rules, device_id) if given.sampling else None
        shared = self._watches.setdefault(name, {}) if rules or sampling else self._without_rules
        spans = spans_of(given.windows, device_id) if rules else ()
        mutes = mutes_of(given.mutes, device_id) if rules and given.mutes else ()
        same = tuple(rule.id for rule in rules), spans, sampling, mutes
        if same not in shared:
            if len(shared) >= WATCHES_MAX:
                shared.clear()
            no_data = {rule.id: rule.no_data / 1_000_000 for rule in rules if rule.no_data}
            shared[same] = DeviceRules(rules, prefilter_for(rules, self._schema), no_data, spans, sampling, mutes)
        if given.names_no_device:
            self._alike[name] = shared[same]
        return shared[same]

    def in_maintenance(self, name: tuple[str, str], seconds: float) -> bool:
        """Whether a device (owner, device) is in a maintenance window at event time `seconds` since 1970."""
        return within(self.in_force(user_of(name[0])).windows, name[1], int(seconds * 1_000_000))

    def has_mute(self, user_id: str, rule_id: str, device_id: str, now: int) -> bool:
        """Whether the user has a mute of exactly this rule and device, ALL or an id each, at `now` in microseconds
        since 1970.
        """
        mutes = self._own.get(user_id, InForce()).mutes
        return any((one.rule_id, one.device_id) == (rule_id, device_id) and now < one.until for one in mutes)

    def muted_until(self, name: tuple[str, str], rule_id: str, seconds: float) -> int:
        """Until when a rule of presence is muted on a device (owner, device) at `seconds` since 1970: in microseconds
        since 1970, or mutes.FOREVER; 0: not at all.
        """
        mutes = self.in_force(user_of(name[0])).mutes
        return muted_until(mutes_of(mutes, name[1]), rule_id, int(seconds * 1_000_000)) if mutes else 0

    def some_users(self) -> list[str]:
        """Two users who have rules of their own, or as many as there are."""
        return list(islice(self._with_rules, 2))

    @property
    def users(self) -> int:
        """How many users have rules of their own."""
        return len(self._with_rules)


# Ids of rules, maintenance, sampling and mutes: equal for devices that share a DeviceRules.
_Same = tuple[tuple[str, ...], tuple[Span, ...], Sampling | None, tuple[Mute, ...]]
