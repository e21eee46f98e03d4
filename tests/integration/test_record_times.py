"""Times on real servers: of Kafka's records, of replays, of a device whose clock is set back, of rules over MQTT."""

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.servers import KafkaServer, MqttServer
from tests.workers import Site
from tools.audit import read

pytestmark = pytest.mark.integration

HOT = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}]
SCALES = (0.001, 1000, 10**6)  # seconds, microseconds, nanoseconds where milliseconds belong


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    more = {"kafka_partitions": 1, "offline_after": 600, "clock_back_readings": 3}
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await made.prepare(HOT)
    admin = AIOKafkaAdminClient(bootstrap_servers=made.kafka)
    await admin.start()
    try:  # as every Kafka before 4 does by itself
        loose = {"message.timestamp.after.max.ms": str(2**63 - 1)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, made.settings.kafka_topic, loose)])
    finally:
        await admin.close()
    return made


class Log:
    """The input topic, written to as a bridge does or as other programs do."""

    def __init__(self, site: Site, producer: AIOKafkaProducer) -> None:
        self._site, self._producer, self._sequence = site, producer, 0

    async def write(
        self, topic: str, payload: object, headers: Sequence[tuple[str, bytes]] = (), stamp: int | None = None
    ) -> None:
        """`topic` is that of MQTT, with the user in front."""
        value = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        known = [("mqtt_topic", topic.replace("{u}", self._site.unique).encode()), *headers]
        await self._producer.send_and_wait(
            self._site.settings.kafka_topic, value, key=b"k", headers=known, timestamp_ms=stamp
        )

    async def reads(self, device: str, at: datetime, temperature: float, *more: tuple[str, bytes]) -> None:
        """A reading."""
        self._sequence += 1
        body = {"time": at.isoformat(), "sequence_id": self._sequence, "temperature": temperature}
        await self.write(f"users/{{u}}/devices/{device}/telemetry", body, more)


async def test_no_time_of_a_record_ends_a_worker(site: Site) -> None:
    now = datetime.now(UTC)
    command = {"device_id": "d1", "rule_id": "temperature", "action": "SNOOZE", "duration_minutes": 1}
    with site.program("worker") as worker:
        await worker.ready()
        async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
            log = Log(site, producer)
            for scale in SCALES:
                stamp = int(time.time() * 1000 * scale)
                body = {"time": now.isoformat(), "sequence_id": stamp % 1000, "temperature": 90}
                await log.write("users/{u}/devices/d1/telemetry", body, stamp=stamp)
                await log.write("iot/{u}/s1/telemetry", body, stamp=stamp)
                await log.write("iot/{u}/status", b"online", stamp=stamp)
                await log.write("iot/{u}/status", b"offline", stamp=stamp)
                await log.write("users/{u}/config", HOT, stamp=stamp)
                await log.write("users/{u}/alerts/manage", command, stamp=stamp)
                await log.write("users/{u}/alerts/manage", b"{", stamp=stamp)
            await log.reads("d2", now, 20)
        await site.settled_input()
        assert worker.alive
        assert worker.stop() < 10
    assert await site.fetch("SELECT 1 FROM raw_telemetry WHERE device_id = 'd2'")
    events = [json.loads(one.value) for one in await read(site, site.settings.kafka_alerts_topic) if not one.headers]
    assert {event["rule_id"] for event in events} == {"temperature", "$offline"}
    assert min(event["event_time"] for event in events) > (now - timedelta(minutes=1)).isoformat()
    times = await site.fetch("SELECT last_seen FROM device_status UNION ALL SELECT last_seen FROM active_alerts")
    assert times
    assert all(abs(row["last_seen"] - now) < timedelta(minutes=5) for row in times), times


async def test_a_replay_has_the_outcome_of_the_first_time(site: Site) -> None:
    """Of records that came in 100 days ago: one is put back as it is, one as a dead letter has it."""
    came = datetime.now(UTC) - timedelta(days=100)
    header = ("ingest_ms", b"%d" % (came.timestamp() * 1000))
    with site.program("worker") as worker:
        await worker.ready()
        async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
            log = Log(site, producer)
            await log.reads("old", came - timedelta(days=1), 20, header)
            await log.reads("ahead", came + timedelta(hours=1), 95, header)
            await log.reads("ahead_now", datetime.now(UTC) + timedelta(seconds=306), 95)  # this record bears no header
            await site.settled_input()
            letters = await read(site, site.settings.kafka_dlq_topic)
            await asyncio.sleep(7)  # by the clock it would be taken now
            for letter in letters:
                record = json.loads(letter.value)
                headers = [one for one in letter.headers if one[0] not in ("reason", "mqtt_topic")]
                payload = b64decode(record["payload_base64"])
                topic = record["original_topic"].replace(site.unique, "{u}")
                await log.write(topic, payload, [*headers, ("replay_count", b"1")])
        await site.settled_input()
        assert worker.stop() < 10
    assert [row["device_id"] for row in await site.fetch("SELECT device_id FROM raw_telemetry")] == ["old"]
    again = [json.loads(one.value) for one in await read(site, site.settings.kafka_dlq_topic)]
    assert [one["reason"] for one in again] == ["time_in_future"] * 4
    assert [one["replay_count"] for one in again] == [0, 0, 1, 1]
    assert await read(site, site.settings.kafka_alerts_topic) == []


async def test_a_device_whose_clock_is_set_back_is_followed(site: Site) -> None:
    begun = datetime.now(UTC)
    with site.program("worker") as worker:
        await worker.ready()
        async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
            log = Log(site, producer)

            async def reads(device: str, count: int, behind: float, temperature: float) -> None:
                for _ in range(count):
                    now = datetime.now(UTC)
                    header = ("ingest_ms", b"%d" % (now.timestamp() * 1000))
                    await log.reads(device, now - timedelta(seconds=behind), temperature, header)
                    await asyncio.sleep(0.3)

            await reads("d1", 2, 0, 20)
            await log.reads("d2", datetime.now(UTC), 20)
            for number in range(30):  # history
                await log.reads("d2", begun - timedelta(seconds=3600 - number * 10), 95)
            await reads("d1", 4, 3600, 95)
        await site.settled_input()
        set_back = worker.events("device_clock_set_back")
        assert worker.stop() < 10
    events = [json.loads(one.value) for one in await read(site, site.settings.kafka_alerts_topic)]
    assert [(event["device_id"], event["status"]) for event in events] == [("d1", "FIRING")]
    assert events[0]["event_time"] < (begun - timedelta(minutes=50)).isoformat()
    named = "SELECT device_id, clock_set_back, clock_set_back_at FROM device_status WHERE clock_set_back IS NOT NULL"
    (row,) = await site.fetch(named)
    assert (row["device_id"], round(row["clock_set_back"], -2)) == ("d1", 3600)
    assert row["clock_set_back_at"] > begun
    assert [one["device_id"] for one in set_back] == ["d1"]
    assert len(await site.fetch("SELECT 1 FROM raw_telemetry")) == 37


async def test_rules_over_mqtt_are_taken_in_the_order_of_the_log(site: Site) -> None:
    """Whatever the clock of the bridge says; and an edit by hand holds against what came in before."""

    def rules(message: str) -> list[dict[str, Any]]:
        return [{**HOT[0], "message": message}]

    async def message() -> str:
        (row,) = await site.fetch("SELECT rules->0->>'message' AS m FROM user_configs WHERE user_id = $1", site.unique)
        return str(row["m"])

    with site.program("worker") as worker:
        await worker.ready()
        async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
            log = Log(site, producer)
            now = time.time()
            for text, seconds in (("v1", 0.0), ("v2", -600.0), ("v3", 3600.0), ("v4", 1.0)):
                header = ("ingest_ms", b"%d" % ((now + seconds) * 1000))
                await log.write("users/{u}/config", rules(text), [header])
                await site.settled_input()
                assert await message() == text
            await site.set_rules(rules("by hand"))
            header = ("ingest_ms", b"%d" % ((now - 600) * 1000))
            await log.write("users/{u}/config", rules("before"), [header])
            await site.settled_input()
            assert await message() == "by hand"
        left_out = worker.events("config_left_out")
        assert worker.stop() < 10
    assert [(one["user_id"], one["offset"]) for one in left_out] == [(site.unique, 4)]
