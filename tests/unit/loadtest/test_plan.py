import json
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from app.core.model.records import Reading
from app.core.model.times import micros
from app.core.rules.parse import parse
from app.core.rules.rule import RuleSet
from app.loadtest.plan import (
    HOT_ABOVE,
    HOT_EVERY,
    HOT_FOR,
    RULE_ID,
    RULES,
    ExpectedAlert,
    LoadPlan,
    is_hot,
    payload,
    temperature_tenths,
)
from app.loadtest.schedule import Profile, Schedule
from tests import DEFAULT
from tests.unit.records import Message, read

START = 1_795_226_400_123_456


def plan(users: int = 30, of_each: int = 3, rate: float = 200, seconds: float = 300) -> LoadPlan:
    return LoadPlan("ab12cd", users, of_each, Schedule(Profile.STEADY, rate, seconds), start_us=START)


def test_every_message_is_one_reading_of_one_device() -> None:
    made = plan(users=7, of_each=2, rate=10, seconds=10)
    readings = {
        made.message(device, sequence)
        for device in range(14)
        for sequence in range(1, made.readings_of(device, 100) + 1)
    }
    assert readings == set(range(100))


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 10_000))
def test_a_name_leads_back_to_its_device(users: int, of_each: int, number: int) -> None:
    made = plan(users, of_each)
    device = number % made.devices
    assert made.number(made.name(device)) == device
    assert made.topic(device) == f"users/{made.user(device)}/devices/{made.name(device)}/telemetry"
    assert made.name(device).startswith(made.pattern.removesuffix("%"))


def test_client_ids_of_a_run_are_all_different() -> None:
    made = plan()
    assert len({made.name(device) for device in range(made.devices)}) == made.devices == 90
    assert len({made.user(device) for device in range(made.devices)}) == 30


def test_an_existing_user_has_all_devices_and_keeps_the_rules() -> None:
    made = LoadPlan("ab", 1, 4, Schedule(Profile.STEADY, 1, 10), user="truck-fleet")
    assert {made.user(device) for device in range(4)} == {"truck-fleet"}
    assert not made.own_users


@given(st.integers(0, 5000), st.integers(1, 10**6))
def test_a_reading_is_what_the_plan_says(device: int, sequence: int) -> None:
    due = plan().due_us(device, sequence)
    found = json.loads(payload(device, sequence, due))
    assert found["sequence_id"] == sequence
    assert micros(datetime.fromisoformat(found["timestamp"])) == found["load_due_us"] == due
    assert found["temperature"] == temperature_tenths(device, sequence) / 10
    assert (found["temperature"] > HOT_ABOVE) == is_hot(device, sequence)
    assert 1 <= found["battery"] <= 100


def test_two_readings_are_never_alike() -> None:
    made = plan()
    bodies = {
        payload(device, sequence, made.due_us(device, sequence)) for device in range(90) for sequence in range(1, 90)
    }
    assert len(bodies) == 90 * 89
    sums = {json.loads(body)["load_sum"] for body in bodies}
    assert len(sums) > 8000


@given(st.integers(0, 200), st.integers(0, 700))
def test_the_alerts_are_those_of_the_hot_readings(device: int, readings: int) -> None:
    made, was, wanted = plan(), False, []
    for sequence in range(1, readings + 1):
        if (hot := is_hot(device, sequence)) != was:
            wanted.append(ExpectedAlert("FIRING" if hot else "RESOLVED", made.due_us(device, sequence)))
        was = hot
    assert list(made.alerts_of(device, readings)) == wanted


def test_a_device_is_hot_now_and_then() -> None:
    assert sum(is_hot(3, sequence) for sequence in range(1, 10 * HOT_EVERY + 1)) == 10 * HOT_FOR


def test_workers_accept_the_rules() -> None:
    found = parse(json.dumps(RULES), "load-ab-1", DEFAULT)
    assert isinstance(found, RuleSet)
    assert [rule["id"] for rule in RULES] == [RULE_ID]


@given(st.integers(START - 10, START + 310_000_000))
def test_how_many_readings_are_before_a_time(us: int) -> None:
    made = plan()
    count = made.due_before(us)
    assert count == 0 or made.at_us(made.schedule.due(count - 1)) < us
    assert count == made.schedule.total or made.at_us(made.schedule.due(count)) >= us


def test_a_reading_is_telemetry_of_the_product() -> None:
    due = plan().due_us(3, 5)
    found = read(Message(payload(3, 5, due)))
    assert isinstance(found, Reading)
    assert (found.sequence_id, micros(found.time)) == (5, due)
