"""What of a user's alerts is quiet: mutes of a rule, of a device or of everything, as user_configs keeps them.

A mute of one rule on one device is no such mute: the device's own state has it (app.core.state.rule_memory). Only
presence, whose rules no user has made, is muted here also on one device.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec import Struct

from app.core.model.alert_event import MASS_RULE_ID, OFFLINE_RULE_ID
from app.core.model.times import micros

ALL = "*"  # in place of a device or a rule: all of them
PRESENCE = (OFFLINE_RULE_ID, MASS_RULE_ID)
FOREVER = 1 << 62  # microseconds since 1970: until somebody ends it


class Mute(Struct, frozen=True, gc=False):
    """One mute of a user: alerts of this rule on this device are not sent, but for their RESOLVED."""

    rule_id: str  # or ALL
    device_id: str  # or ALL
    until: int  # microseconds since 1970, of arrival

    def takes_in(self, rule_id: str, now: int) -> bool:
        """Whether the mute holds for that rule at `now`, microseconds since 1970."""
        return now < self.until and (self.rule_id == rule_id or self.rule_id == ALL)


class StoredMute(Struct):
    """An entry of user_configs.mutes; `until` is absent or null where somebody has to end the mute."""

    rule_id: str
    device_id: str
    since: datetime
    until: datetime | None = None
    by: str = ""
    comment: str = ""


_stored = msgspec.json.Decoder(list[StoredMute]).decode


def read_mutes(text: str | bytes) -> list[StoredMute]:
    """The entries of user_configs.mutes. Raises ValueError for anything but a list of them, with times that have their
    zones.
    """
    try:
        found = _stored(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if any(time.tzinfo is None for one in found for time in (one.since, one.until) if time is not None):
        raise ValueError("a time has no zone")
    return found


def compile_mutes(stored: Iterable[StoredMute]) -> tuple[Mute, ...]:
    """The entries as devices are asked about them."""
    return tuple(Mute(one.rule_id, one.device_id, micros(one.until) if one.until else FOREVER) for one in stored)


def mutes_of(mutes: tuple[Mute, ...], device_id: str) -> tuple[Mute, ...]:
    """The mutes that take in this device."""
    return tuple(one for one in mutes if one.device_id in (ALL, device_id))


def muted_until(mutes: Iterable[Mute], rule_id: str, now: int) -> int:
    """Until when a rule is muted at `now`, both microseconds since 1970; 0: it is not."""
    return max((one.until for one in mutes if one.takes_in(rule_id, now)), default=0)
