"""What may come in through the bridge, who is reported over a limit, and how many users a metric can name."""

import pytest
from prometheus_client import CollectorRegistry, Gauge

from app.core.ingress.heavy_hitters import HeavyHitters
from app.core.ingress.limits import IngressLimits
from app.gateways.admission import USERS, Admission, account, show
from app.gateways.mqtt.packets import MalformedPublish, Publish
from app.gateways.mqtt.records import to_record
from app.gateways.record import IngestRecord


def message(topic: str, packet_id: int = 1, *, again: bool = False) -> IngestRecord:
    """As it arrives."""
    return to_record(Publish(topic, b"{}", packet_id, [], again), 1)


async def test_over_the_limit_qos_1_is_marked_and_qos_0_dropped() -> None:
    gate = Admission(IngressLimits(user_messages=1e-6, burst=1e6))
    first, second = message("users/u/devices/d/telemetry"), message("iot/u/s/telemetry", 2)
    third, other = message("users/u/config", 0), message("users/v/devices/d/telemetry", 3)
    assert gate.admit([first, second, third, other]) == [first, second, other]
    assert (first.over, other.over) == (None, None)
    assert "IOT_INGRESS_USER_MESSAGES" in (second.over or "")


async def test_what_is_not_the_user_s_doing_does_not_count() -> None:
    gate = Admission(IngressLimits(user_messages=1e-6, burst=1e6))
    ours = [message(f"users/u/{rest}") for rest in ("alerts", "alerts/errors", "config/errors")]
    again = [message("users/u/devices/d/telemetry", n, again=True) for n in (5, 6)]
    assert gate.admit([*ours, *again]) == [*ours, *again]
    assert not any(record.over for record in [*ours, *again])
    (new,) = gate.admit([message("users/u/config")])
    assert new.over is None


async def test_a_device_s_limit_is_for_what_devices_send() -> None:
    gate = Admission(IngressLimits(device_messages=1e-6, burst=1e6))
    topics = ["users/u/devices/d/telemetry", "users/u/devices/e/telemetry", "iot/u/status", "users/u/config"]
    over = [record.over is not None for record in gate.admit([message(topic) for topic in topics * 2])]
    assert over == [False] * 4 + [True, True, True, False]


async def test_damaged_messages_count_for_their_sender() -> None:
    gate = Admission(IngressLimits(user_messages=1e-6, burst=1e6))
    sent = [to_record(MalformedPublish(b"users/u\xff/devices/d/telemetry", b"", n), 1) for n in (1, 2)]
    assert [record.over is None for record in gate.admit(sent)] == [True, False]


@pytest.mark.parametrize(
    ("topic", "user"),
    [("users/u/x", "u"), ("iot/n/s/telemetry", "n"), ("users", "users"), ("a/b/c", "a"), ("users/", ""), ("", "")],
)
def test_whose_a_topic_is(topic: str, user: str) -> None:
    assert account(topic.encode()) == user.encode()


def test_a_metric_names_so_many_users_and_one_other() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("top", "Users.", ["user"], registry=registry)
    for round_ in range(3):
        sums = HeavyHitters()
        for n in range(500):
            sums.add(f"user {round_} {n}", n)
        sums.add("other", 10_000)
        show(gauge, sums)
    found = {sample.labels["user"]: sample.value for metric in registry.collect() for sample in metric.samples}
    assert len(found) == USERS + 1
    assert found["other (a user)"] == 10_000
    assert found["user 2 499"] == 499
    assert sum(found.values()) == 10_000 + sum(range(500))
