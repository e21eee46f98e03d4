"""Change of value and rolling averages on the whole path: MQTT, Kafka, worker, PostgreSQL, and a kill in between."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.doctor import count
from app.doctor.finding import Level
from tests.integration.bridges import Publisher, publisher
from tests.integration.test_notifier import listening
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, until

pytestmark = pytest.mark.integration

DOCUMENT = {
    "rules": [
        {"key": "avg(temperature,60s)", "operator": ">", "threshold": 50, "message": "warm for a minute"},
        {"key": "temperature", "operator": ">", "threshold": 20.95, "message": "peak"},
    ],
    "sampling": {
        "cov": [{"keys": {"temperature": {"absolute": 1}}, "heartbeat_seconds": 300, "devices": ["d*"]}],
        "averages": [{"key": "temperature", "seconds": 60}],
    },
}
BEGAN = datetime.now(UTC) - timedelta(minutes=10)


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)
    await made.prepare([])
    return made


async def publish(site: Site, client: Publisher, first: int, values: list[float]) -> None:
    topic = f"users/{site.unique}/devices/d1/telemetry"
    for number, value in enumerate(values, first):
        time = (BEGAN + timedelta(seconds=number)).isoformat()
        await client.publish(
            [(topic, json.dumps({"time": time, "sequence_id": number, "temperature": value}).encode())]
        )


async def rows(site: Site) -> list[int]:
    return [row[0] for row in await site.fetch("SELECT sequence_id FROM raw_telemetry ORDER BY sequence_id")]


async def average(site: Site) -> list[Any]:
    found = await site.fetch(
        "SELECT device_id, key, window_seconds, time, count, mean, minimum, maximum FROM rolling_averages"
    )
    return [tuple(row) for row in found]


async def configured(site: Site, client: Publisher) -> None:
    """Publish the configuration, and wait until the worker goes by it: there is an alert of a probe device."""
    await client.publish([(f"users/{site.unique}/config", json.dumps(DOCUMENT).encode())])
    probe = 0

    async def works() -> bool:
        nonlocal probe
        probe += 1
        time = (BEGAN + timedelta(seconds=probe)).isoformat()
        payload = json.dumps({"time": time, "sequence_id": probe, "temperature": 20}).encode()
        await client.publish([(f"users/{site.unique}/devices/probe/telemetry", payload)])
        return bool(await site.fetch("SELECT FROM rolling_averages WHERE device_id = 'probe'"))

    await until(works, 30, lambda: "the worker does not go by the configuration")
    await site.settled_input()
    await site.fetch("DELETE FROM raw_telemetry")
    await site.fetch("DELETE FROM rolling_averages")


async def test_on_the_whole_path(site: Site) -> None:
    async with listening(site.mqtt, site.unique) as heard, publisher(site.mqtt, f"device-{site.unique}") as client:
        with site.program("worker") as worker, site.program("notifier") as notifier, site.program("bridge") as bridge:
            for program in (worker, notifier, bridge):
                await program.ready()
            await configured(site, client)
            await publish(site, client, 0, [20, 20.5, 20.9, 20.8, 20.7, 21, 20.4])  # 21 opens an alert, 20.4 ends it
            await site.settled_input()
            assert await rows(site) == [0, 5, 6]
            mean = sum([20, 20.5, 20.9, 20.8, 20.7, 21, 20.4]) / 7
            (found,) = await average(site)
            assert found[:5] == ("d1", "temperature", 60, BEGAN + timedelta(seconds=6), 7)
            assert found[5:] == (pytest.approx(mean), 20, 21)
            worker.kill()
            await publish(site, client, 7, [20.4, 20.4, 99, 99.5])
            worker.start()
            await publish(site, client, 11, [99.5] * 10)
            await site.settled_input()
            assert await rows(site) == [0, 5, 6, 9, 14]  # 14: the average is beyond 50
            await site.settled()
            assert (await average(site))[0][4] == 21
            await the_books_balance(worker)
    reported = [(event["rule_id"], event["status"]) for event in heard if event["device_id"] == "d1"]
    assert reported == [
        ("temperature", "FIRING"),
        ("temperature", "RESOLVED"),
        ("temperature", "FIRING"),
        ("avg(temperature,60s)", "FIRING"),
    ]


async def the_books_balance(worker: Any) -> None:
    """What this worker, since its start, says that it dropped."""
    _, page = await worker.get("/metrics")
    dropped = [line for line in page.splitlines() if line.startswith('iot_dropped_total{policy="cov"}')]
    assert dropped
    assert float(dropped[0].split()[-1]) >= 11


async def test_the_doctor_does_not_miss_what_was_left_out(site: Site) -> None:
    await site.fetch(
        "INSERT INTO user_configs (user_id, rules, sampling) VALUES ($1, '[]', $2::jsonb)"
        " ON CONFLICT (user_id) DO UPDATE SET sampling = excluded.sampling",
        site.unique,
        json.dumps(DOCUMENT["sampling"]),
    )
    async with publisher(site.mqtt, f"device-{site.unique}") as client:
        with site.program("worker") as worker, site.program("bridge") as bridge:
            for program in (worker, bridge):
                await program.ready()
            await publish(site, client, 0, [20, 20.5, 20.9, 20.8, 30, 30.1, 29.5])
            await site.settled_input()
            assert await rows(site) == [0, 4]
            (found,) = await count.look(site.settings, 100)
            assert (found.level, "are rows" in found.what) == (Level.OK, True), found
            assert "2 are rows" in found.what
            assert "5 left out by change of value; none is missing" in found.what
            _, page = await worker.get("/metrics")
            assert "iot_rows_stored_total 2.0" in page.splitlines()
            await site.fetch("DELETE FROM raw_telemetry WHERE sequence_id = 4")
            (found,) = await count.look(site.settings, 100)
            assert found.level is Level.WARNING, found
            assert f"{site.unique}/d1, sequence_id 4" in found.what
