"""What a device remembers of a rule beside its open episode: commands, a rest, how often it fired."""

from msgspec import Struct


class RuleMemory(Struct, array_like=True):
    """Of one rule on one device; void once the rule means something else. Times are microseconds since 1970.

    Encoded as an array: add fields only at the end and with defaults.
    """

    fingerprint: str  # of the rule it is about
    snoozed_until: int = 0
    disabled: bool = False
    rest_until: int = 0  # cooldown: no FIRING before
    fired: tuple[int, ...] = ()  # when, of late; kept for rules with `flap`
    fired_until: int = 0  # `fired` says nothing from then on

    def mutes(self, now: int) -> bool:
        """Whether nothing is sent at that time."""
        return self.disabled or now < self.snoozed_until

    def spent(self, now: int) -> bool:
        """Whether it says nothing more about any time from `now` on."""
        return not self.disabled and max(self.snoozed_until, self.rest_until, self.fired_until) <= now


NOTHING = RuleMemory("")
