"""Partitions are added to the input topic under a running worker: it waits for the other topics, and says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site, until
from tools.faults.load import RULES
from tools.faults.remade import Sender, grow

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(300)]

DEVICES = 12


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    more = {"kafka_partitions": 2, "offline_after": 4, "offline_grace": 2}
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await made.prepare(RULES)
    return made


async def answer(worker: Running) -> tuple[int, dict[str, Any]]:
    """Of /ready."""
    status, body = await worker.get("/ready")
    return status, json.loads(body or "{}")


async def metric(worker: Running, name: str) -> float:
    _, page = await worker.get("/metrics")
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


async def held(worker: Running) -> bool:
    assert worker.alive, worker.tail()
    status, body = await answer(worker)
    return status == 503 and not body["checks"]["topics_agree"]


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_it_takes_no_partition_says_the_whole_cure_and_goes_on_by_itself(site: Site, restarted: bool) -> None:
    sender, settings = Sender(site), site.settings
    rest = [settings.kafka_dlq_topic, settings.kafka_alerts_topic, f"{settings.group_id}-state-changelog"]
    with site.program("worker") as worker:
        await worker.ready()
        for device in range(DEVICES):
            await sender.send(f"d{device}", [20])
        await site.settled_input()
        await grow(site, 4, settings.kafka_topic)

        async def held_while_devices_talk() -> bool:  # until then, one that is silent may be reported
            for device in range(DEVICES):
                await sender.send(f"d{device}", [20])
            return await held(worker)

        await until(held_while_devices_talk, 60, worker.tail)
        if restarted:
            worker.stop()
            worker.start()
            await until(lambda: held(worker), 60, worker.tail)
        _, body = await answer(worker)
        cure = body["advice"]["topics"]
        assert f"{settings.kafka_topic} has 4 partitions" in cure
        assert [name for name in rest if f"--partitions 4 --topic {name}" not in cure] == []
        assert await metric(worker, "iot_operator_needed") == 1
        for device in range(DEVICES):
            await sender.send(f"d{device}", [20])
        [(reported,)] = await site.fetch("SELECT count(*) FROM alert_history")
        assert reported == 0, "no device is reported offline meanwhile"
        await grow(site, 4, *rest)

        async def stored() -> bool:
            assert worker.alive, worker.tail()
            [(rows,)] = await site.fetch("SELECT count(*) FROM raw_telemetry")
            return int(rows) == sender.sent

        await until(stored, 60, lambda: f"{sender.sent} sent; {worker.tail(8)}")
        await worker.ready()
        assert await metric(worker, "iot_operator_needed") == 0
        worker.stop()
