"""The pages beside the way in: who may see which, and what is in them."""

import json

import pytest

from tests.unit.gateways.http.gateway import GOOD, JSON, TELEMETRY, serving


async def test_live_and_ready_are_for_everybody_and_tell_the_truth() -> None:
    async with serving() as here:
        assert (await here.ask("/live", method="GET")).json == {"status": "ok", "checks": {"running": True}}
        assert (await here.ask("/ready", method="GET")).json["checks"] == {"kafka": True, "http": True}
        here.writer.there.clear()
        answer = await here.ask("/ready", method="GET")
        assert (answer.status, answer.json["checks"]["kafka"]) == (503, False)
        assert (await here.ask("/live", method="GET")).status == 200
        here.writer.there.set()
        head = await here.ask("/ready", method="HEAD")
        assert (head.status, head.body) == (200, b"")


async def test_health_has_what_every_programs_page_has() -> None:
    async with serving() as here:
        await here.ask(TELEMETRY, GOOD, JSON)
        page = (await here.ask("/health", method="GET")).json
        assert (page["status"], page["program"], page["queue_depth"], page["kafka"]) == ("ok", "http", 0, True)
        assert page["last_flush"]["rows"] == 1
        assert page["mean_flush_seconds"] >= 0


async def test_metrics_count_requests_records_and_refusals() -> None:
    async with serving() as here:
        await here.ask(TELEMETRY, GOOD, JSON)
        await here.ask(TELEMETRY, b"{", JSON)
        page = (await here.ask("/metrics", method="GET")).body.decode()
        for line in (
            'iot_gateway_requests_total{gateway="http",outcome="accepted"}',
            'iot_gateway_requests_total{gateway="http",outcome="rejected"}',
            'iot_gateway_records_total{gateway="http"}',
            'iot_gateway_rejected_total{gateway="http",reason="bad_json"}',
            'iot_gateway_connections{gateway="http"} 1.0',
        ):
            assert line in page


@pytest.mark.parametrize("path", ["/health", "/metrics"])
async def test_names_of_users_are_for_this_machine_alone(path: str) -> None:
    async with serving() as here:
        assert (await here.ask(path, method="GET")).status == 200
    async with serving(gateway_behind_proxy=True) as here:  # which is on this machine as well
        for said in ({}, {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "127.0.0.1"}):
            answer = await here.ask(path, headers=said, method="GET")
            assert (answer.status, answer.json["reason"]) == (403, "not_from_here")
        assert (await here.ask("/ready", headers={"X-Forwarded-For": "203.0.113.7"}, method="GET")).status == 200


async def test_the_document_names_every_path_that_is_served() -> None:
    async with serving() as here:
        document = json.loads((await here.ask("/openapi.json", method="GET")).body)
        assert document["openapi"] == "3.1.0"
        for path, methods in document["paths"].items():
            served = path.replace("{", "").replace("}", "")
            for method in methods:
                if method != "parameters":
                    answer = await here.ask(served, method=method.upper())
                    assert answer.status not in (404, 405), path
        properties = document["components"]["schemas"]["DeviceTelemetry"]["properties"]
        assert {"sequence_id", "timestamp", "temperature", "battery"} <= set(properties)
