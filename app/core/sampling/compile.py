"""`sampling` of a user's configuration, and the windows in its rules -> what is asked of each device."""

from typing import Any

from msgspec import Struct

from app.core.rules.conditions import CompoundCondition
from app.core.rules.field_readers import reader
from app.core.rules.globs import Globs
from app.core.rules.rule import Rule, RuleSet
from app.core.rules.window_keys import name_of, window_key
from app.core.sampling.change_of_value import Band, Policy
from app.core.sampling.policy import Sampling, WindowReference, WindowSpec
from app.core.schema.schema import Schema

WINDOWS_MAX = 20  # different windows in the rules of a user; each costs 1 us a reading and up to 500 bytes a device


class DevicePolicy(Struct, frozen=True, gc=False):
    """One entry of `cov`."""

    devices: Globs
    policy: Policy


class DeviceWindow(Struct, frozen=True, gc=False):
    """One entry of `averages`."""

    devices: Globs
    wanted: WindowSpec


class AskedWindow(Struct, frozen=True, gc=False):
    """A key of the user's rules that asks for a figure of a window."""

    asked: WindowReference
    wanted: WindowSpec


class UserSampling(Struct, frozen=True, gc=False):
    """All entries of a user, in the user's order, and what the rules ask for, by key. False when there is nothing."""

    policies: tuple[DevicePolicy, ...] = ()
    averages: tuple[DeviceWindow, ...] = ()
    asked: dict[str, AskedWindow] = {}

    def __bool__(self) -> bool:
        return bool(self.policies or self.averages or self.asked)


def compile_sampling(sampling: dict[str, Any], schema: Schema) -> UserSampling:
    """Compile a document that passed the checks, for readings of `schema`."""
    policies = [DevicePolicy(_devices(one), _policy(one, schema)) for one in sampling.get("cov") or ()]
    averages = [
        DeviceWindow(_devices(one), _wanted(one["key"], one["seconds"], schema))
        for one in sampling.get("averages") or ()
    ]
    return UserSampling(tuple(policies), tuple(averages))


def with_rules(user: UserSampling | None, rules: RuleSet | None, schema: Schema) -> UserSampling:
    """`user` with the windows that the user's rules ask for: found once a user, not once a device."""
    found, user = dict[str, AskedWindow](), user or UserSampling()
    for key in sorted({key for rule in rules.rules for key in _keys(rule)}) if rules else ():
        if (one := window_key(key)) is not None:
            wanted = _wanted(one.key, one.seconds, schema)
            found[key] = AskedWindow(WindowReference(key, one.function, wanted.name), wanted)
    return UserSampling(user.policies, user.averages, found)


def sampling_for(user: UserSampling, rules: tuple[Rule, ...], device_id: str) -> Sampling | None:
    """The sampling of a device with these rules; None where there is none. The first entry of `cov` for the device
    counts.

    `rules` are among the rules that `with_rules` was given.
    """
    policy = next((one.policy for one in user.policies if one.devices.takes_in(device_id)), None)
    landing = {one.wanted.name: one.wanted for one in user.averages if one.devices.takes_in(device_id)}
    keys = {key for rule in rules for key in _keys(rule)} if user.asked else set()
    found, windows = [one for key, one in user.asked.items() if key in keys], dict(landing)
    for of_rule in found:
        windows.setdefault(of_rule.wanted.name, of_rule.wanted)
    if policy is None and not windows:
        return None
    asked = tuple(of_rule.asked for of_rule in found)
    return Sampling(policy, tuple(windows.values()), tuple(landing.values()), asked)


def too_many_windows(rules: RuleSet) -> str | None:
    """What is wrong with rules that ask for more windows than a device's state should hold."""
    found = {window_key(key) for rule in rules.rules for key in _keys(rule)} - {None}
    different = {(one.key, one.seconds) for one in found if one}
    if len(different) <= WINDOWS_MAX:
        return None
    return f"rules: they ask for {len(different)} different windows; at most {WINDOWS_MAX} are allowed"


def _keys(rule: Rule) -> list[str]:
    one = rule.condition
    return [part.key for part in one.parts] if isinstance(one, CompoundCondition) else [one.key]


def _policy(one: dict[str, Any], schema: Schema) -> Policy:
    bands = tuple(_band(key, band, schema) for key, band in one["keys"].items())
    return Policy(bands, one["heartbeat_seconds"] * 1_000_000)


def _band(key: str, band: dict[str, Any], schema: Schema) -> Band:
    absolute, share, column = float(band.get("absolute", 0)), float(band.get("percent", 0)) / 100, schema.keys.get(key)
    return Band(key, reader(schema, key, "number"), absolute, share, column.name if column else None)


def _wanted(key: str, seconds: int, schema: Schema) -> WindowSpec:
    return WindowSpec(name_of(key, seconds), key, seconds, reader(schema, key, "number"))


def _devices(one: dict[str, Any]) -> Globs:
    return Globs(one.get("devices") or ("*",))
