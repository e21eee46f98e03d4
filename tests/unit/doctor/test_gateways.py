"""What the doctor makes of a gateway's page."""

from typing import Any

from app.doctor.finding import Finding, Level
from app.doctor.programs import gateways
from app.doctor.programs.worker_page import Page
from app.doctor.programs.workers import look
from app.settings import Settings
from tests.unit.top.deployments import gateway_page, serving


def page(records: float = 1000.0, checks: dict[str, bool] | None = None, **more: Any) -> Page:
    samples: dict[Any, float] = {
        ("iot_gateway_unacked_bytes", ()): 0.0,
        ("iot_gateway_records_total", (("gateway", "http"),)): records,
        ("iot_gateway_connections", (("gateway", "http"),)): 3.0,
    }
    for name, reasons in more.items():
        if isinstance(reasons, dict):
            for reason, count in reasons.items():
                samples[(f"iot_gateway_{name}_total", (("gateway", "http"), ("reason", reason)))] = count
        else:
            samples[(f"iot_gateway_{name}", ())] = reasons
    return Page("http://g", samples, checks or {"http": True, "kafka": True}, {})


def warned(found: list[Finding]) -> list[str]:
    assert {one.level for one in found} <= {Level.OK, Level.WARNING}
    assert all(one.cure for one in found if one.level)
    return [one.what for one in found if one.level]


def test_one_that_is_well() -> None:
    (found,) = gateways.findings(page(rejected={"bad_json": 5.0}, refused_logins={"bad_credentials": 2.0}))
    assert found == Finding(
        Level.OK, "gateway", "http://g: 1,000 records acknowledged by Kafka and answered, 3 connections"
    )


def test_what_is_held_up_is_named() -> None:
    found = gateways.findings(page(checks={"http": True, "kafka": False}, full=1.0, unacked_bytes=64e6))
    assert warned(found) == [
        "http://g is not ready: kafka",
        "http://g: 64,000,000 bytes wait for Kafka, so nothing more is taken",
    ]


def test_much_that_is_refused_is_reported_with_its_reasons() -> None:
    found = gateways.findings(page(900.0, rejected={"bad_json": 90.0, "not_allowed": 10.0, "too_large": 0.0}))
    assert warned(found) == ["http://g: 100 of 1,000 records and requests were refused: bad_json 90, not_allowed 10"]


def test_whoever_guesses_is_reported_and_a_database_that_is_away() -> None:
    found = gateways.findings(page(refused_logins={"slowed_down": 7.0, "unavailable": 2.0}))
    assert warned(found) == [
        "http://g: 7 logins were put off, as too many had failed before them",
        "http://g: 2 logins could not be decided: the database did not answer",
    ]


async def test_an_address_says_itself_that_a_gateway_answers_there() -> None:
    more = b"# TYPE iot_gateway_unacked_bytes gauge\niot_gateway_unacked_bytes 0\n"
    metrics = gateway_page("quic", 42) + more
    async with serving(metrics=(200, metrics), ready=(503, b'{"checks": {"quic": true, "kafka": false}}')) as served:
        found = await look(Settings(_env_file=None), [served.url])
    assert [one.area for one in found] == ["gateway", "gateway"]
    assert found[0].what.startswith(f"{served.url}: 42 records")
    assert found[1].what == f"{served.url} is not ready: kafka"
