"""MQTT accounts: which names are safe, which rules can be asked for, and Mosquitto's lines for them."""

import re

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.routing.mqtt_acl import DEVICES, AclAction, AclRule, for_mosquitto, name_fault, rule
from app.postgres.queries.mqtt_accounts import hashed, password_fault
from tools.documents import ROOT


def test_the_rules_of_devices_are_those_of_the_schema() -> None:
    rows = re.findall(r"\('\$all',\s*'(\w+)',\s*'(\w+)',\s*'([^']+)',\s*(\d+)\)", (ROOT / "init.sql").read_text())
    ours = [(one.permission, one.action.value, one.topic, str(one.priority)) for one in DEVICES]
    assert sorted(rows) == sorted(ours)


UNSAFE = ["", "a/b", "+", "a#", "a\nb", "a\0", "$all", "$SYS", " a", "a:b", "x" * 201, "é" * 101]


@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_would_reach_further(name: str) -> None:
    assert name_fault(name)


@pytest.mark.parametrize("name", ["alice", "truck-1", "Zoë", "a b", "1", "x" * 200])
def test_names_that_are_safe(name: str) -> None:
    assert name_fault(name) is None


@given(st.text(max_size=20))
def test_a_safe_name_is_one_level_without_wildcards(name: str) -> None:
    if name_fault(name) is None:
        assert not set(name) & set("/+#\n\r\0")
        assert len(for_mosquitto([AclRule(name, "allow", AclAction.PUBLISH, "a")]).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("publish:a/b", AclRule("u", "allow", AclAction.PUBLISH, "a/b", 10)),
        ("subscribe:users/+/alerts", AclRule("u", "allow", AclAction.SUBSCRIBE, "users/+/alerts", 10)),
        ("subscribe:users/u/#", AclRule("u", "allow", AclAction.SUBSCRIBE, "users/u/#", 10)),
        ("subscribe:#", AclRule("u", "allow", AclAction.SUBSCRIBE, "#", 10)),
    ],
)
def test_rules(text: str, expected: AclRule) -> None:
    assert rule("u", text) == expected


NO_RULES = ["", "a/b", "read:a", "publish:", "publish:a/#/b", "publish:a+/b", "publish:a#", "all:x\n"]


@pytest.mark.parametrize("text", NO_RULES)
def test_rules_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"publish:TOPIC|no topic filter|no control"):
        rule("u", text)


def test_mosquittos_lines() -> None:
    lines = for_mosquitto([*DEVICES, rule("dash", "subscribe:users/+/alerts")]).splitlines()
    assert "pattern write users/%u/devices/%c/telemetry" in lines
    assert "pattern read users/%u/alerts" in lines
    assert lines[-2:] == ["user dash", "topic read users/+/alerts"]
    assert not any("$" in line for line in lines)


def test_passwords() -> None:
    assert password_fault("long enough!") is None
    assert "too short" in (password_fault("short") or "")
    assert "too long" in (password_fault("é" * 37) or "")
    made = hashed("long enough! é")
    assert made.startswith("$2a$10$")
    assert bcrypt.checkpw("long enough! é".encode(), made.encode())
