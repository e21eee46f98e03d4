"""Who may publish what at a gateway: the decision of EMQX, by the same rows."""

import re

from hypothesis import given
from hypothesis import strategies as st

from app.core.routing import publish_rules
from app.core.routing.mqtt_acl import DEVICES, AclAction, AclRule
from app.core.routing.publish_rules import OF_DEVICES, OF_USERS, PublishRules
from app.ports import Account

TELEMETRY = "users/{}/devices/{}/telemetry"
ALICE = Account("alice")


def allow(topic: str, priority: int = 10, client_id: str | None = None) -> AclRule:
    return AclRule("alice", "allow", AclAction.PUBLISH, topic, priority, client_id)


def test_a_user_publishes_below_his_own_name() -> None:
    for topic in ("users/alice/devices/d/telemetry", "iot/alice/s/telemetry", "users/alice/config", "iot/alice/status"):
        assert ALICE.may_publish(topic), topic
    for topic in ("users/bob/devices/d/telemetry", "iot/bob/s/telemetry", "users/bob/config", "users/alice/alerts",
                  "users/alice", "anything", "", "users/alice/devices/d/telemetry/x", "users/alice/devices//telemetry",
                  "users/alice/devices/d/e/telemetry", "users/+/devices/d/telemetry"):  # fmt: skip
        assert not ALICE.may_publish(topic), topic


def test_topics_that_somebody_makes_up_fill_no_memory() -> None:
    """The topics took 540 MB: 2 kB each, with one character that makes each of the other characters take four bytes."""
    before = publish_rules._decide.cache_info().currsize
    for number in range(100):
        assert not ALICE.may_publish(TELEMETRY.format("bob", f"{number}\N{GRINNING FACE}" + "x" * 1900))
    assert publish_rules._decide.cache_info().currsize == before


def test_an_account_of_one_device_publishes_its_telemetry_and_nothing_else() -> None:
    truck = Account("alice", "truck", rules=OF_DEVICES)
    for topic in ("users/alice/devices/truck/telemetry", "iot/alice/truck/telemetry"):
        assert truck.may_publish(topic), topic
    for topic in ("users/alice/devices/car/telemetry", "iot/alice/car/telemetry", "users/alice/config",
                  "users/alice/alerts/manage", "iot/alice/status", "users/bob/devices/truck/telemetry"):  # fmt: skip
        assert not truck.may_publish(topic), topic


def test_who_is_bound_to_a_device_speaks_for_no_other() -> None:
    bound, several = Account("alice", "truck"), Account("alice", None, "truck-")
    assert bound.may_publish(TELEMETRY.format("alice", "truck"))
    assert not bound.may_publish(TELEMETRY.format("alice", "truck-1"))
    assert bound.may_publish("users/alice/config"), "as at the MQTT broker"
    assert several.may_publish(TELEMETRY.format("alice", "truck-1"))
    assert not several.may_publish(TELEMETRY.format("alice", "car"))
    wide = Account("alice", "truck", rules=PublishRules([allow("users/#")]))
    assert not wide.may_publish(TELEMETRY.format("bob", "car")), "not even where a rule would allow it"


def test_the_first_rule_that_matches_decides() -> None:
    deny = AclRule("alice", "deny", AclAction.PUBLISH, "users/alice/devices/old/#", 5)
    rules = PublishRules([deny, *DEVICES])
    alice = Account("alice", rules=rules)
    assert not rules.own_telemetry
    assert rules.own_nodes
    assert not alice.may_publish(TELEMETRY.format("alice", "old"))
    assert alice.may_publish(TELEMETRY.format("alice", "new"))


def test_rules_about_subscribing_allow_no_publishing() -> None:
    rules = PublishRules([AclRule("alice", "allow", AclAction.SUBSCRIBE, "#")])
    assert not Account("alice", rules=rules).may_publish("anything")


def test_a_superuser_may_publish_anything() -> None:
    assert Account("root", rules=PublishRules([], superuser=True)).may_publish("whatever")


def test_a_rule_for_a_client_id_is_for_that_device() -> None:
    rules = PublishRules([allow("users/bob/devices/+/telemetry", client_id="gateway")])
    account = Account("alice", rules=rules)
    assert account.may_publish(TELEMETRY.format("bob", "gateway"))
    assert not account.may_publish(TELEMETRY.format("bob", "other"))


def test_plain_rules_are_known_for_such() -> None:
    assert OF_USERS.own_telemetry
    assert OF_USERS.own_nodes
    assert OF_DEVICES.own_telemetry
    assert not PublishRules([]).own_telemetry
    assert not PublishRules([allow("users/+/devices/+/telemetry"), *DEVICES]).own_telemetry
    assert PublishRules([allow("users/alice/config"), *DEVICES]).own_telemetry


def emqx(rules: list[AclRule], username: str, client_id: str, topic: str) -> bool:
    """What EMQX does with the rows, worked out apart from the code under test: a regular expression a filter."""
    for rule in rules:
        if rule.action is not AclAction.PUBLISH or rule.client_id not in (None, client_id):
            continue
        pattern = rule.topic.replace("${username}", username).replace("${clientid}", client_id)
        expression = "/".join("[^/]*" if level == "+" else re.escape(level) for level in pattern.split("/"))
        if re.fullmatch(expression.replace(r"/\#", "(/.*)?").replace(r"\#", ".*"), topic, re.S):
            return rule.permission == "allow"
    return False


LEVELS = st.sampled_from(["users", "iot", "alice", "bob", "d1", "d2", "devices", "telemetry", "config", "status", "x"])
FILTERS = st.builds(
    lambda levels, last: "/".join([*levels, *last]),
    st.lists(st.one_of(LEVELS, st.sampled_from(["+", "${username}", "${clientid}"])), min_size=1, max_size=5),
    st.sampled_from([[], ["#"]]),
)
TOPICS = st.one_of(
    st.lists(LEVELS, min_size=1, max_size=5).map("/".join),
    st.builds(TELEMETRY.format, st.sampled_from(["alice", "bob"]), st.sampled_from(["d1", "d2"])),
    st.builds("iot/{}/{}/telemetry".format, st.sampled_from(["alice", "bob"]), st.sampled_from(["d1", "d2"])),
)
RULES = st.lists(
    st.one_of(
        st.builds(
            AclRule,
            st.just("alice"),
            st.sampled_from(["allow", "deny"]),
            st.just(AclAction.PUBLISH),
            FILTERS,
            client_id=st.sampled_from([None, None, "d1"]),
        ),
        st.sampled_from(DEVICES),
    ),
    max_size=6,
)


@given(rules=RULES, topic=TOPICS)
def test_the_decision_is_that_of_emqx(rules: list[AclRule], topic: str) -> None:
    """For a client that calls itself as the device of its topic."""
    made = PublishRules(rules)
    account = Account("alice", rules=made)
    levels = topic.split("/")
    device = {("users", 5): 3, ("iot", 4): 2}.get((levels[0], len(levels)))
    named = levels[device] if device is not None and levels[-1] == "telemetry" else ""
    if named and levels[0] == "users" and levels[2] != "devices":
        named = ""
    assert account.may_publish(topic) == emqx(rules, "alice", named, topic)
    if made.own_telemetry:
        assert account.may_publish(TELEMETRY.format("alice", "d9"))
        assert not account.may_publish(TELEMETRY.format("bob", "d9"))
    if made.own_nodes:
        assert account.may_publish("iot/alice/d9/telemetry")
