"""What the doctor makes of the pages of a bridge and a notifier."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.doctor.finding import Finding, Level
from app.doctor.programs import bridge, notifier
from app.doctor.programs.worker_page import Page
from app.doctor.programs.workers import look
from app.settings import Settings
from tests.unit.top.deployments import bridge_page, serving
from tools.documents import METRICS, metrics_of

WELL = {"mqtt": True, "kafka": True}
ALL_WELL = {"kafka": True, "mqtt": True, "database": True, "messages": True}


def page(samples: dict[Any, float], checks: dict[str, bool]) -> Page:
    """`samples`: by name, or by name, label and its value."""
    labelled = {one: (one, ()) if isinstance(one, str) else (one[0], (one[1:],)) for one in samples}
    named: dict[Any, float] = {labelled[one]: value for one, value in samples.items()}
    return Page("http://p", named, checks, {})


def of_bridge(samples: dict[Any, float], **checks: bool) -> list[Finding]:
    taken = {("iot_bridge_messages_total", "kind", "telemetry"): 1000.0, "iot_bridge_connected": 1.0}
    return bridge.findings(page({**taken, "iot_bridge_acked_total": 990.0, **samples}, WELL | checks))


def of_notifier(samples: dict[Any, float], **checks: bool) -> list[Finding]:
    sent = {("iot_notifier_published_total", "status", "FIRING"): 12.0, "iot_notifier_connected": 1.0}
    return notifier.findings(page({**sent, **samples}, ALL_WELL | checks))


def test_a_bridge_that_is_well() -> None:
    (found,) = of_bridge({"iot_bridge_in_flight": 10.0, "iot_bridge_waiting_seconds": 0.2})
    said = "http://p: 1,000 messages taken, 990 acknowledged after Kafka's ack, 10 in hand"
    assert found == Finding(Level.OK, "bridge", said)


@pytest.mark.parametrize(
    ("samples", "checks", "level", "words"),
    [
        ({}, {"mqtt": False}, Level.BROKEN, "not connected to the MQTT broker"),
        ({}, {"kafka": False}, Level.BROKEN, "Kafka does not take"),
        ({"iot_bridge_waiting_seconds": 75.0}, {}, Level.WARNING, "has waited 75 s"),
        ({"iot_bridge_paused": 1.0, "iot_bridge_buffered_bytes": 5e6}, {}, Level.WARNING, "5,000,000 bytes wait"),
        ({"iot_bridge_sessions_lost_total": 2.0}, {}, Level.WARNING, "forgotten the session at 2 reconnects"),
        ({("iot_bridge_refused_total", "outcome", "dead_lettered"): 3.0}, {}, Level.WARNING, "dead_lettered 3"),
        ({("iot_bridge_limited_total", "outcome", "dropped"): 4.0}, {}, Level.WARNING, "4 messages are over a limit"),
    ],
)
def test_a_bridge_that_is_not(samples: dict[Any, float], checks: dict[str, bool], level: Level, words: str) -> None:
    (first, found) = of_bridge(samples, **checks)
    assert first.level is Level.OK
    assert (found.level, found.area, words in found.what, bool(found.cure)) == (level, "bridge", True, True), found


def test_a_notifier_that_is_well() -> None:
    (found,) = of_notifier(
        {("iot_notifier_consumer_lag", "group", "notifier"): 3.0, ("iot_webhook_posted_total", "status", "FIRING"): 5.0}
    )
    said = "http://p: 12 alerts acknowledged by the MQTT broker, 5 taken by the webhook, 3 are not done"
    assert found == Finding(Level.OK, "notifier", said)


@pytest.mark.parametrize(
    ("samples", "checks", "level", "words"),
    [
        ({}, {"mqtt": False}, Level.BROKEN, "no alert goes out"),
        ({}, {"kafka": False}, Level.BROKEN, "cannot read the alert topic"),
        ({}, {"database": False}, Level.BROKEN, "does not reach the database"),
        ({}, {"messages": False}, Level.WARNING, "set aside"),
        ({}, {"lamp": False}, Level.BROKEN, "not ready: lamp"),
        (
            {("iot_notifier_waiting_seconds", "group", "webhook"): 61.0},
            {},
            Level.WARNING,
            "waited 61 s in group webhook",
        ),
        ({"iot_notifier_left_out_total": 1.0}, {}, Level.WARNING, "1 alerts were left out"),
        ({"iot_webhook_refused_total": 2.0}, {}, Level.WARNING, "2 alerts are refused by the webhook"),
        ({"iot_notifier_invalid_total": 9.0}, {}, Level.WARNING, "9 records of the alert topic"),
    ],
)
def test_a_notifier_that_is_not(samples: dict[Any, float], checks: dict[str, bool], level: Level, words: str) -> None:
    (first, found) = of_notifier(samples, **checks)
    assert first.level is Level.OK
    assert (found.level, found.area, words in found.what, bool(found.cure)) == (level, "notifier", True, True), found


async def test_the_page_shows_which_program_answers() -> None:
    async with serving(metrics=(200, bridge_page(5)), ready=(503, b'{"checks": {"mqtt": false}}')) as served:
        found = await look(Settings(), [served.url])
    assert [(one.area, one.level) for one in found] == [("bridge", Level.OK), ("bridge", Level.BROKEN)]


def test_the_doctor_reads_metrics_that_there_are() -> None:
    there = {f"{one._name}{'_total' * (one._type == 'counter')}" for name in METRICS for one in metrics_of(name)}
    sources = Path(bridge.__file__).parents[1].rglob("*.py")
    read = {name for path in sources for name in re.findall(r'"(iot_\w+|db_\w+)"', path.read_text())}
    assert "iot_bridge_connected" in read
    assert read - there - {"iot_migrations", "iot_build_info"} == set()
