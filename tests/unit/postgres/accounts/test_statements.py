"""Rows of the tables -> accounts: what each may publish, in the order in which EMQX looks at the rules."""

from datetime import UTC, datetime

from app.core.routing.mqtt_acl import ALL, DEVICE, DEVICES, ONE_DEVICE, AclAction, AclRule
from app.postgres.accounts.statements import Rules, UserRow, account_row

ALICE = UserRow("alice", None, "alice", None, "hash", False)
TELEMETRY, OTHER = "users/alice/devices/truck/telemetry", "users/alice/devices/car/telemetry"


def rules(*own: AclRule, first: bool = False) -> Rules:
    """The default rules, and alice's rules before or behind them."""
    publish = [rule for rule in (*DEVICES, *ONE_DEVICE) if rule.action is AclAction.PUBLISH]
    found: dict[str, list[tuple[int, AclRule]]] = {ALL: [], DEVICE: []}
    for place, rule in enumerate([*own, *publish] if first else [*publish, *own]):
        found.setdefault(rule.username, []).append((place, rule))
    return found


def deny(topic: str) -> AclRule:
    return AclRule("alice", "deny", AclAction.PUBLISH, topic)


def allow(topic: str) -> AclRule:
    return AclRule("alice", "allow", AclAction.PUBLISH, topic)


def test_rules_are_looked_at_in_the_order_of_the_table() -> None:
    assert not account_row(ALICE, rules(deny(TELEMETRY), first=True)).account.may_publish(TELEMETRY)
    assert account_row(ALICE, rules(deny(TELEMETRY))).account.may_publish(TELEMETRY)


def test_what_an_account_binds_to() -> None:
    bound = {"truck": ("truck", ""), "alice:truck": ("truck", ""), "truck-*": (None, "truck-"), "*": (None, "")}
    for client_id, expected in bound.items():
        account = account_row(ALICE._replace(client_id=client_id), rules()).account
        assert (account.device_id, account.device_prefix) == expected
        assert account.may_publish("users/alice/config")


def test_an_account_of_a_device_is_of_its_user_and_has_the_rules_of_devices() -> None:
    key = UserRow("key", "alice:truck", "alice", "truck", "hash", False)
    account = account_row(key, rules()).account
    assert (account.user_id, account.device_id) == ("alice", "truck")
    assert account.may_publish(TELEMETRY)
    assert not any(account.may_publish(topic) for topic in (OTHER, "users/alice/config", "users/key/config"))


def test_a_token_of_a_device_has_what_its_account_is_denied_and_nothing_that_it_was_given() -> None:
    token = ALICE._replace(token_device="truck", token_hash=b"x", expires_at=datetime(2030, 1, 1, tzinfo=UTC))
    row = account_row(token, rules(allow("users/+/devices/+/telemetry"), first=True))
    assert row.ends == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert row.account.may_publish(TELEMETRY)
    for topic in (OTHER, "users/bob/devices/truck/telemetry", "users/alice/config"):
        assert not row.account.may_publish(topic), topic
    assert not account_row(token, rules(deny(TELEMETRY), first=True)).account.may_publish(TELEMETRY)


def test_a_token_is_no_way_around_what_its_account_is_bound_to() -> None:
    for user in (ALICE._replace(device_id="truck", username="key"), ALICE._replace(client_id="truck")):
        account = account_row(user._replace(token_device="car"), rules()).account
        assert not any(account.may_publish(topic) for topic in (TELEMETRY, OTHER))


def test_a_superuser_is_one() -> None:
    assert account_row(ALICE._replace(superuser=True), rules()).account.may_publish("anything")
