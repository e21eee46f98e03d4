"""What each MQTT topic is routed to, and what holds for every text whatsoever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.model.records import Kind
from app.core.routing import mqtt_topics
from app.core.routing.mqtt_topics import Route, is_own_output, manage_key, route

CASES = [
    ("users/u1/devices/d1/telemetry", Route(Kind.TELEMETRY, "u1", "d1", b"u1/d1")),
    ("users/ü✓/devices/\U0001f600/telemetry", Route(Kind.TELEMETRY, "ü✓", "\U0001f600", "ü✓/\U0001f600".encode())),
    ("users/u1/config", Route(Kind.CONFIG, "u1", "", b"u1")),
    ("users/u1/alerts/manage", Route(Kind.ALERTS_MANAGE, "u1", "", b"u1")),
    ("iot/n1/s1/telemetry", Route(Kind.TELEMETRY, "n1", "s1", b"n1")),
    ("iot/n1/status", Route(Kind.STATUS, "n1", "", b"n1")),
    # A sensor may be called "status" and a node "telemetry".
    ("iot/n1/status/telemetry", Route(Kind.TELEMETRY, "n1", "status", b"n1")),
    ("iot/telemetry/status", Route(Kind.STATUS, "telemetry", "", b"telemetry")),
]

UNKNOWN = [
    "", "/", "users", "users/", "users/u1", "users//devices/d1/telemetry", "users/u1/devices//telemetry",
    "users/u1/devices/d1/telemetry/", "users/u1/devices/d1/telemetry/x", "/users/u1/devices/d1/telemetry",
    "Users/u1/devices/d1/telemetry", "users/u1/devices/d1/Telemetry", "users/u1/device/d1/telemetry", "users//config",
    "users/u1/config/errors", "users/u1/alerts", "users/u1/alerts/errors", "users//alerts/manage", "iot//status",
    "iot/n1/s1/status", "iot/n1//telemetry", "iot//s1/telemetry", "iot/n1/s1/x/telemetry", "$SYS/broker", "/" * 3000,
]  # fmt: skip


@pytest.mark.parametrize(("topic", "expected"), CASES)
def test_route(topic: str, expected: Route) -> None:
    assert route(topic) == expected


@pytest.mark.parametrize("topic", UNKNOWN)
def test_anything_else_is_unknown_and_keyed_by_its_topic(topic: str) -> None:
    assert route(topic) == Route(Kind.UNKNOWN, "", "", topic.encode())


def test_long_topics_are_routed_but_not_cached() -> None:
    before = mqtt_topics._cached.cache_info().currsize
    long = "a" * 60_000
    assert route(f"users/{long}/devices/d/telemetry") == Route(Kind.TELEMETRY, long, "d", f"{long}/d".encode())
    assert mqtt_topics._cached.cache_info().currsize == before


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_never_raises_and_names_only_what_the_topic_holds(topic: str) -> None:
    found = route(topic)
    assert found == mqtt_topics._route(topic)
    assert found.user_id in topic
    assert found.device_id in topic
    assert (found.user_id == "") == (found.kind is Kind.UNKNOWN)


level = st.text(min_size=1, alphabet=st.characters(exclude_characters="/", exclude_categories=["Cs"]))


@given(level, level)
def test_ids_come_back_from_any_level(user: str, device: str) -> None:
    found = route(f"users/{user}/devices/{device}/telemetry")
    assert found == Route(Kind.TELEMETRY, user, device, f"{user}/{device}".encode())
    assert manage_key(route(f"users/{user}/alerts/manage"), device) == found.key


@pytest.mark.parametrize("topic", ["users/u1/alerts", "users/u1/alerts/errors", "users/u1/config/errors"])
def test_own_outputs_are_known(topic: str) -> None:
    assert is_own_output(topic)
    assert route(topic).kind is Kind.UNKNOWN


@pytest.mark.parametrize("topic", [case[0] for case in CASES] + ["users/u1/alerts/x", "users/u1/errors", "users"])
def test_inputs_are_not_own_outputs(topic: str) -> None:
    assert not is_own_output(topic)
