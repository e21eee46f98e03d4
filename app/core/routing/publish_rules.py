"""Rules of mqtt_acl -> whether an account may publish to a topic: what EMQX answers, for the ways in without a broker.

The first rule that matches decides, and what no rule matches is denied. Where a client at the broker has a client id, a
message of a gateway has the device that its topic names.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from app.core.model.keys import CACHED_LENGTH
from app.core.routing.mqtt_acl import DEVICES, ONE_DEVICE, AclAction, AclRule

USERNAME, CLIENT_ID = "${username}", "${clientid}"
OWN_TELEMETRY = f"users/{USERNAME}/devices/{CLIENT_ID}/telemetry"
OWN_NODE = f"iot/{USERNAME}/{CLIENT_ID}/telemetry"
DECISIONS = 32_768  # remembered, of accounts with rules of their own


class PublishRules:
    """The rules of one account, its own and everybody's; two are equal when they are the same object."""

    def __init__(self, rules: Iterable[AclRule], superuser: bool = False) -> None:
        """`rules` by priority, the first first; rules that are not about publishing are passed over."""
        self._rules = tuple(
            (rule.permission == "allow", tuple(rule.topic.split("/")), rule.client_id)
            for rule in rules
            if rule.action is AclAction.PUBLISH
        )
        self._superuser = superuser
        self.own_telemetry = self._plainly(OWN_TELEMETRY)  # whether each device of the account's may send, and no other
        self.own_nodes = self._plainly(OWN_NODE)

    def _plainly(self, topic: str) -> bool:
        """Whether this rule is all that is to be asked of a topic of telemetry."""
        levels = tuple(topic.split("/"))
        wanted = (True, levels, None)
        conflicting = [one for one in self._rules if one != wanted and _may_meet(one[1], levels)]
        return not self._superuser and not conflicting and wanted in self._rules

    def allow(self, username: str, device_id: str, topic: str) -> bool:
        """Whether a client of this name may publish to `topic`; `device_id` stands where a rule says ${clientid}."""
        if len(topic) > CACHED_LENGTH:  # made up by somebody, to fill the memory
            return self.decide(username, device_id, topic)
        return _decide(self, username, device_id, topic)

    def decide(self, username: str, device_id: str, topic: str) -> bool:
        """The answer of `allow`, not remembered."""
        if self._superuser:
            return True
        levels = topic.split("/")
        for allowed, pattern, client_id in self._rules:
            if client_id in (None, device_id, f"{username}:{device_id}") and _matches(
                pattern, levels, username, device_id
            ):
                return allowed
        return False


@lru_cache(maxsize=DECISIONS)
def _decide(rules: PublishRules, username: str, device_id: str, topic: str) -> bool:
    return rules.decide(username, device_id, topic)


def _matches(pattern: Sequence[str], levels: Sequence[str], username: str, device_id: str) -> bool:
    """Whether a topic filter matches; both as levels."""
    for at, level in enumerate(pattern):
        if level == "#":
            return True
        if at >= len(levels):
            return False
        if level == "+":
            continue
        if not device_id and CLIENT_ID in level:
            return False
        named = level.replace(USERNAME, username).replace(CLIENT_ID, device_id) if "$" in level else level
        if named != levels[at]:
            return False
    return len(pattern) == len(levels)


def _may_meet(pattern: Sequence[str], levels: Sequence[str]) -> bool:
    """Whether a filter could match what a template stands for; True in doubt."""
    for one, other in zip(pattern, levels, strict=False):
        if one == "#":
            return True
        if one != "+" and "$" not in one and "$" not in other and one != other:
            return False
    return len(pattern) == len(levels) or pattern[-1] == "#"


OF_USERS = PublishRules(DEVICES)
OF_DEVICES = PublishRules(ONE_DEVICE)
