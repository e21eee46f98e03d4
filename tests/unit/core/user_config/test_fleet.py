"""The configuration of all users, and what each user overrides of it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.decode.decoder import DecodeLimits
from app.core.model.namespaces import FLEET
from app.core.model.records import Reason
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.processing.processor import Processor
from app.core.routing.mqtt_acl import name_fault
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.core.processing.test_edited_rules import WAYS, World
from tests.unit.presence_world import Given
from tests.unit.readings import rule
from tests.unit.records import NOW_MS, Message

LOW = rule("battery", "<", 10)
OFF = {"id": "battery", "enabled": False}
COV = {"keys": {"temperature": {"absolute": 1}}, "heartbeat_seconds": 60}
MINE = {"keys": {"humidity": {"absolute": 1}}, "heartbeat_seconds": 60, "devices": ["d1"]}
WINDOW = {"from": "2026-11-21T22:00:00Z", "until": "2026-11-22T04:00:00Z"}


def book(**documents: object) -> RuleBook:
    """Of users by name; `fleet` is FLEET."""
    made = RuleBook(DEFAULT)
    named = ((FLEET if name == "fleet" else name, one) for name, one in documents.items())
    assert made.apply((name, msgspec.json.encode(one).decode()) for name, one in named) == []
    return made


def rules(made: RuleBook, user: str = "u", device: str = "d") -> list[tuple[str, object]]:
    return [(one.id, getattr(one.condition, "threshold", None)) for one in made.rules_for(user, device)]


def test_a_user_without_rules_has_those_of_the_fleet() -> None:
    made = book(fleet=[LOW, rule(devices=["truck-*"])])
    assert rules(made) == [("battery", 10)]
    assert rules(made, "anybody", "truck-1") == [("battery", 10), ("temperature", 80)]
    assert made.watch_for("u", "d") is made.watch_for("v", "e")
    assert (made.users, made.some_users()) == (0, [])


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ([rule()], [("temperature", 80), ("battery", 10)]),
        ([{**LOW, "threshold": 5}], [("battery", 5)]),
        ([rule(id="battery")], [("battery", 80)]),
        ([{**LOW, "threshold": 5, "devices": ["other"]}], []),
        ([OFF], []),
        ([{**LOW, "enabled": False}], []),
        ([OFF, rule()], [("temperature", 80)]),
        ([{**LOW, "enabled": True}], [("battery", 10)]),
        ([], [("battery", 10)]),
    ],
)
def test_a_rule_of_a_user_takes_the_place_of_the_fleets_of_the_same_id(own: Any, found: Any) -> None:
    made = book(fleet=[LOW], u=own)
    assert rules(made) == found
    assert rules(made, "v") == [("battery", 10)]


def test_an_edit_of_either_takes_effect_on_everybody_it_is_for() -> None:
    made = book(u=[rule()])
    seen = made.version
    assert made.watch_for("u", "d").rules
    assert not made.watch_for("v", "d").rules
    made.apply([(FLEET, msgspec.json.encode([LOW]).decode())])
    assert made.changed_since("u", seen)
    assert made.changed_since("v", seen)
    assert [len(made.watch_for(user, "d").rules) for user in "uv"] == [2, 1]
    seen = made.version
    made.apply([("u", msgspec.json.encode([OFF]).decode())])
    assert (made.changed_since("u", seen), made.changed_since("v", seen)) == (True, False)
    assert [len(made.watch_for(user, "d").rules) for user in "uv"] == [0, 1]
    made.apply([("u", None), (FLEET, None)])
    assert [len(made.watch_for(user, "d").rules) for user in "uv"] == [0, 0]


def test_change_of_value_averages_windows_and_maintenance_of_the_fleet() -> None:
    fleet = {"rules": [rule("avg(temperature,60s)")], "maintenance": [WINDOW],
             "sampling": {"cov": [COV], "averages": [{"key": "battery", "seconds": 60}]}}  # fmt: skip
    own = {"rules": [], "sampling": {"cov": [MINE], "averages": [{"key": "humidity", "seconds": 60}]}}
    made = book(fleet=fleet, u=own)
    for user, device, key in (("u", "d1", "humidity"), ("u", "d2", "temperature"), ("v", "d1", "temperature")):
        watch = made.watch_for(user, device)
        assert watch.sampling is not None
        assert watch.sampling.policy is not None
        assert [band.key for band in watch.sampling.policy.bands] == [key]
        assert [one.key for one in watch.sampling.asked] == ["avg(temperature,60s)"]
        landing = {(one.key, one.seconds) for one in watch.sampling.landing}
        assert landing == {("battery", 60)} | ({("humidity", 60)} if user == "u" else set())
        assert len(watch.maintenance) == 1
        assert made.in_maintenance((user, device), 1_795_302_000)
        assert not made.in_maintenance((user, device), 1_795_402_000)


def test_what_is_wrong_with_the_fleets_leaves_what_there_was() -> None:
    made = book(fleet=[LOW])
    (refused,) = made.apply([(FLEET, "[{}]")])
    assert refused.user_id == FLEET
    assert rules(made) == [("battery", 10)]


@pytest.mark.parametrize("topic", WAYS)
def test_devices_in_memory_follow_the_fleets(topic: bytes) -> None:
    world = World(topic)
    assert world.value(90) == []
    world.edit(FLEET, rule("value"))
    assert world.value(90) == ["value FIRING"]
    world.edit("n", rule("value", threshold=95))
    assert world.value(90) == ["value RESOLVED rule_changed"]
    world.edit("n")
    assert world.value(90) == ["value FIRING"]


def test_nobody_is_the_fleet() -> None:
    """A message under its name is refused, and no account can have it."""
    payload = msgspec.json.encode([LOW])
    headers = (("mqtt_topic", b"users/*/config"), ("kind", b"x"), ("ingest_ms", b"%d" % NOW_MS))
    classes = DeviceClasses((), PresenceLimits(5.0))
    processor = Processor(DecodeLimits(), DEFAULT, RuleBook(DEFAULT), lambda *_: None, classes)
    batch = Given([Message(payload, headers, b"*", NOW_MS, 0)], 1, 0)
    (refused,) = processor(batch, NOW_MS / 1000).rejected  # type: ignore[arg-type]
    assert refused.reason is Reason.INVALID_RULES
    assert "the user * stands for all users" in refused.detail
    assert name_fault(FLEET) == "* stands for all users in user_configs"
    assert name_fault("a*") is None


some_rules = st.lists(
    st.builds(
        lambda name, threshold, more: rule(id=name, threshold=threshold, **more),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([1, 2]),
        st.sampled_from([{}, {"devices": ["d"]}, {"devices": ["e*"]}, {"enabled": False}]),
    ),
    max_size=3,
    unique_by=lambda one: str(one["id"]),
)
edits = st.lists(st.tuples(st.sampled_from([FLEET, "u", "v"]), st.none() | some_rules), max_size=6)


@given(edits)
def test_after_any_edits_everybody_has_what_the_rows_say(log: list[tuple[str, list[dict[str, Any]] | None]]) -> None:
    """Whatever was kept of earlier configurations; asked after each edit."""
    made, rows = RuleBook(DEFAULT), dict[str, list[dict[str, Any]]]()
    for user_id, document in log:
        assert not made.apply([(user_id, None if document is None else msgspec.json.encode(document).decode())])
        rows[user_id] = document or []
        for user in ("u", "v", "w"):
            own = rows.get(user, [])
            known = {one["id"] for one in own}
            wanted = own + [one for one in rows.get(FLEET, []) if one["id"] not in known]
            for device in ("d", "e1"):
                has = [
                    (one["id"], one["threshold"])
                    for one in wanted
                    if one.get("enabled", True) and one.get("devices", [device])[0].rstrip("*") in device
                ]
                assert rules(made, user, device) == has
                watch = made.watch_for(user, device)
                assert [one.id for one in watch.rules] == [name for name, _ in has]
