"""What holds for every user: the configuration of the reserved user id FLEET, and what of it each user overrides."""

from msgspec import Struct

from app.core.rules.maintenance import MaintenanceWindow
from app.core.rules.mutes import Mute
from app.core.rules.rule import EVERY, RuleSet, with_defaults
from app.core.sampling.compile import UserSampling, with_rules
from app.core.schema.schema import Schema


class InForce(Struct, frozen=True, gc=False):
    """What a user's devices go by: the user's own configuration, and the fleet's where the user says nothing else."""

    rules: RuleSet | None = None
    windows: tuple[MaintenanceWindow, ...] = ()
    sampling: UserSampling = UserSampling()
    mutes: tuple[Mute, ...] = ()

    @property
    def names_no_device(self) -> bool:
        """Whether there are rules, and nothing that the name of a device decides."""
        if self.rules is None or self.windows or self.sampling or self.mutes:
            return False
        return all(rule.devices == EVERY for rule in self.rules.rules)


def in_force(own: InForce, fleet: InForce, schema: Schema) -> InForce:
    """`own`, then `fleet`: rules by id; of `cov` the first entry with a device counts, so a user's own comes first;
    averages, maintenance windows and mutes are those of both.
    """
    rules = with_defaults(own.rules, fleet.rules)
    policies = own.sampling.policies + fleet.sampling.policies
    sampling = UserSampling(policies, own.sampling.averages + fleet.sampling.averages)
    sampled = with_rules(sampling, rules, schema)
    return InForce(rules, own.windows + fleet.windows, sampled, own.mutes + fleet.mutes)
