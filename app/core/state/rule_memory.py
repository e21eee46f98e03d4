"""What a device remembers of a rule beside an open episode: commands, a rest, how often the rule fired."""

from msgspec import Struct


class RuleMemory(Struct, array_like=True):
    """The memory of one rule on one device; void once the rule means something else. Times are microseconds since 1970.

    Encoded as an array: add fields only at the end and with defaults.
    """

    fingerprint: str  # of the rule that is remembered
    snoozed_until: int = 0  # by the time of arrival
    disabled: bool = False
    rest_until: int = 0  # cooldown: no FIRING before
    fired: tuple[int, ...] = ()  # when the rule fired lately; kept for rules with `flap`
    fired_until: int = 0  # `fired` says nothing from then on

    def mutes(self, now: int) -> bool:
        """Whether nothing is sent at event time `now`."""
        return self.disabled or now < self.snoozed_until

    def spent(self, now: int) -> bool:
        """Whether the memory says nothing about any time from `now` on."""
        return not self.disabled and max(self.snoozed_until, self.rest_until, self.fired_until) <= now


NOTHING = RuleMemory("")
