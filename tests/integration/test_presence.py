"""Who is there, on real servers: offline and back once each, over kills, restarts and outages, and no false storm."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import mqtt5
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.test_notifier import listening
from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site, until
from tools.audit import read

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

AFTER, GRACE = 3.0, 4.0
CARE = {"offline_after": AFTER, "offline_grace": GRACE, "last_seen_every": 1, "kafka_partitions": 2}
HOT = {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot", "no_data_seconds": 2}


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Topics of this test alone; devices are watched."""
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, CARE)
    await made.prepare([HOT])
    return made


class Fleet:
    """Devices, of which those in `talking` send twice a second."""

    def __init__(self, site: Site, producer: AIOKafkaProducer) -> None:
        self._site, self._producer, self._number = site, producer, 0
        self.talking: set[str] = set()
        self.last: dict[str, float] = {}  # when a device sent last, seconds since 1970

    async def send(self, topic: str, key: str, payload: bytes) -> None:
        """Send a message as a bridge would."""
        headers = [("mqtt_topic", topic.encode())]
        await self._producer.send_and_wait(self._site.settings.kafka_topic, payload, key.encode(), headers=headers)

    async def reads(self, device: str, temperature: float = 20, ahead: float = 0) -> None:
        """Send a reading of a device, whose clock may be some seconds ahead."""
        self._number += 1
        time_ = datetime.now(UTC) + timedelta(seconds=ahead)
        body = {"time": time_.isoformat(), "sequence_id": self._number, "temperature": temperature}
        user = self._site.unique
        self.last[device] = time.time()
        await self.send(f"users/{user}/devices/{device}/telemetry", f"{user}/{device}", json.dumps(body).encode())

    async def talk(self) -> None:
        """Send, until cancelled."""
        while True:
            await asyncio.gather(*(self.reads(device) for device in sorted(self.talking)))
            await asyncio.sleep(0.5)


@asynccontextmanager
async def fleet(site: Site) -> AsyncIterator[Fleet]:
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, linger_ms=0) as producer:
        made = Fleet(site, producer)
        talking = asyncio.create_task(made.talk())
        try:
            yield made
        finally:
            talking.cancel()
            await asyncio.wait([talking])


async def events(site: Site) -> list[dict[str, Any]]:
    """The events that were sent, each once, in the order of the outbox."""
    found = [json.loads(record.value) for record in await read(site, site.settings.kafka_alerts_topic)]
    return list({(one["alert_id"], one["status"], one.get("repeat")): one for one in found}.values())


async def reported(site: Site, device: str, *statuses: str, seconds: float = 40) -> list[dict[str, Any]]:
    """Wait until these statuses of the device were sent, and no more."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = [one for one in await events(site) if one["device_id"] == device]
        return [one["status"] for one in found] == list(statuses)

    await until(there, seconds, lambda: f"{device}: {statuses} wanted, {found}")
    return found


async def row(site: Site, device: str, status: str, seconds: float = 20) -> Any:
    """Wait until device_status says so."""
    key = f"{site.unique}/{device}"
    found: list[Any] = []

    async def there() -> bool:
        found[:] = await site.fetch("SELECT * FROM device_status WHERE device_key = $1", key)
        return bool(found) and found[0]["status"] == status

    await until(there, seconds, lambda: f"{key}: {status} wanted, {found}")
    return found[0]


async def watching(worker: Running, devices: int, seconds: float = 40) -> None:
    """Wait until so many are online, and the grace is over."""

    async def calm() -> bool:
        found = await gauges(worker)
        return found.get("iot_devices_online") == devices and found.get("iot_silence_suspended_partitions") == 0

    await until(calm, seconds, lambda: f"{devices} devices wanted:\n{worker.tail()}")


async def gauges(worker: Running) -> dict[str, float]:
    """The metrics of the worker without labels."""
    _, page = await worker.get("/metrics")
    return {s.name: s.value for family in text_string_to_metric_families(page) for s in family.samples if not s.labels}


def delay(event: dict[str, Any], fleet: Fleet) -> float:
    """Seconds from when the device was due until that was reported."""
    return datetime.fromisoformat(event["event_time"]).timestamp() - fleet.last[event["device_id"]] - AFTER


async def test_offline_and_back_over_a_kill(site: Site) -> None:
    async with fleet(site) as devices, listening(site.mqtt, site.unique) as heard:
        with site.program("worker") as worker, site.program("notifier"):
            await worker.ready()
            devices.talking = {"a", "b", "c"}
            await watching(worker, 3)
            devices.talking = {"b", "c"}
            (offline,) = await reported(site, "a", "FIRING")
            late = delay(offline, devices)
            print(f"offline told {late:.2f} s after it was due")
            assert 0 <= late < 10, offline  # 2 s on a machine that has time; tools/bench/presence.py holds to that
            assert (offline["rule_id"], offline["value"], offline["threshold"]) == ("$offline", "offline", AFTER)
            assert offline["age_seconds"] >= AFTER
            seen = (await row(site, "a", "offline"))["last_seen"].timestamp()
            assert abs(seen - devices.last["a"]) < 2
            worker.kill()
            devices.talking = {"a", "c"}  # a device comes back and another falls silent while nobody looks
            await asyncio.sleep(1)
            worker.start()
            await worker.ready()
            firing, resolved = await reported(site, "a", "FIRING", "RESOLVED")
            assert firing == offline
            assert resolved["alert_id"] == offline["alert_id"]
            await row(site, "a", "online")
            (other,) = await reported(site, "b", "FIRING")
            assert abs(datetime.fromisoformat(other["first_seen"]).timestamp() - devices.last["b"]) < 3
            worker.kill()
            worker.start()
            await worker.ready()
            devices.talking = {"a", "b", "c"}
            await reported(site, "b", "FIRING", "RESOLVED")
            await watching(worker, 3)
            assert not await reported(site, "c")
            await until(lambda: _heard(heard, 4), 20, lambda: f"heard {heard}")
            worker.stop()
    assert await site.fetch("SELECT FROM active_alerts") == []
    history = await site.fetch("SELECT device_id, status FROM alert_history")
    assert sorted(map(tuple, history)) == [(d, s) for d in "ab" for s in ("FIRING", "RESOLVED")]


async def _heard(heard: list[dict[str, Any]], count: int) -> bool:
    return len(heard) >= count


async def test_no_data_is_not_resolved(site: Site) -> None:
    async with fleet(site) as devices:
        with site.program("worker") as worker:
            await worker.ready()
            await watching(worker, 0)
            await devices.reads("x", 20)  # the first reading comes before the rules are known, perhaps
            await row(site, "x", "online")
            await devices.reads("x", 90)
            await told_of_rule(site, "FIRING")
            worker.kill()
            worker.start()
            await worker.ready()
            _, stale = await told_of_rule(site, "FIRING", "STALE")
            assert stale["value"] == 90
            assert stale["age_seconds"] >= 2
            (alert,) = await site.fetch("SELECT state FROM active_alerts WHERE rule_id = 'temperature'")
            assert alert["state"] == "STALE"
            worker.kill()
            worker.start()
            await worker.ready()
            await devices.reads("x", 91)
            *_, again = await told_of_rule(site, "FIRING", "STALE", "FIRING")
            assert (again["cause"], again["repeat"]) == ("data_again", 2)
            await told_of_rule(site, "FIRING", "STALE", "FIRING", "STALE")
            await devices.reads("x", 20)
            life = await told_of_rule(site, "FIRING", "STALE", "FIRING", "STALE", "RESOLVED")
            assert len({one["alert_id"] for one in life}) == 1


async def test_no_storm(site: Site) -> None:
    """A restart, a database that hangs, and many devices that fall silent at once."""
    everybody = {f"d{n}" for n in range(25)}
    async with fleet(site) as devices:
        with site.program("worker") as worker:
            await worker.ready()
            devices.talking = set(everybody)
            await watching(worker, 25)
            worker.stop()
            await asyncio.sleep(AFTER + 2)
            worker.start()
            await worker.ready()
            await watching(worker, 25)
            await asyncio.sleep(AFTER + 2)
            assert await events(site) == []
            connection = await asyncpg.connect(site.database)
            try:
                async with connection.transaction():
                    await connection.execute("LOCK TABLE raw_telemetry IN ACCESS EXCLUSIVE MODE")
                    await asyncio.sleep(AFTER + 4)
            finally:
                await connection.close()
            await watching(worker, 25)
            await asyncio.sleep(AFTER + 2)
            assert await events(site) == []
            devices.talking = {f"d{n}" for n in range(10)}
            await platform(site, "FIRING")
            devices.talking = set(everybody)
            await platform(site, "FIRING", "RESOLVED")
            worker.stop()
    assert {event["user_id"] for event in await events(site)} == {"platform"}


async def platform(site: Site, *statuses: str) -> None:
    """Wait until these statuses of all devices together were sent, and no more."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = [one for one in await events(site) if one["user_id"] == "platform"]
        return [one["status"] for one in found] == list(statuses)

    await until(there, 40, lambda: f"{statuses} wanted, {found}")


async def test_the_last_will_of_a_node(site: Site) -> None:
    node = f"n-{site.unique}"
    async with listening(site.mqtt, node) as heard:
        with site.program("worker") as worker, site.program("bridge") as bridge, site.program("notifier") as notifier:
            for program in (worker, bridge, notifier):
                await program.ready()
            reader, writer = await asyncio.open_connection(site.mqtt.host, site.mqtt.port)
            will = mqtt5.Will(f"iot/{node}/status", payload=b"offline", qos=mqtt5.QoS.AT_LEAST_ONCE)
            account = {"username": site.mqtt.username, "password": site.mqtt.password.encode()}
            writer.write(mqtt5.ConnectPacket(f"client-{node}", will=will, **account).write())
            await reader.read(100)
            topics = (f"iot/{node}/status", b"online"), (f"iot/{node}/s1/telemetry", b'{"value": 1}')
            for topic, payload in topics:
                writer.write(mqtt5.PublishPacket(topic, payload).write())
            await writer.drain()
            await status_of(site, node, "online")
            writer.transport.abort()  # no DISCONNECT: the broker publishes its will
            await status_of(site, node, "offline")
            await until(lambda: _heard(heard, 1), 20, lambda: f"heard {heard}")
    assert [(event["rule_id"], event["device_id"], event["status"]) for event in heard] == [("$offline", "", "FIRING")]


async def test_a_silent_node_is_reported_and_its_sensors_are_not(site: Site) -> None:
    node, talking = f"n-{site.unique}", {"s1", "s2", "s3"}
    async with fleet(site) as devices, sensors(devices, node, talking):
        with site.program("worker") as worker:
            await worker.ready()
            await watching(worker, 4)  # the node too
            talking.remove("s1")
            await reported(site, "s1", "FIRING")
            talking.clear()
            await reported(site, "", "FIRING")
            await asyncio.sleep(AFTER + 2)  # so long the sensors have been due
            assert sorted(one["device_id"] for one in await events(site)) == ["", "s1"]  # in partitions of their own
            assert len(await site.fetch("SELECT FROM active_alerts")) == 2
            talking.add("s2")
            await reported(site, "", "FIRING", "RESOLVED")
            await reported(site, "s3", "FIRING")  # the node is back, and this one is not
            talking |= {"s1", "s3"}
            await reported(site, "s3", "FIRING", "RESOLVED")
            await reported(site, "s1", "FIRING", "RESOLVED")
            assert await reported(site, "s2") == []
            worker.stop()
    assert {one["user_id"] for one in await events(site)} == {node}


@asynccontextmanager
async def sensors(devices: Fleet, node: str, talking: set[str]) -> AsyncIterator[None]:
    """Sensors of a node, of which those in `talking` send twice a second."""

    async def talk() -> None:
        while True:
            for sensor in sorted(talking):
                body = {"time": datetime.now(UTC).isoformat(), "value": 1}
                await devices.send(f"iot/{node}/{sensor}/telemetry", node, json.dumps(body).encode())
            await asyncio.sleep(0.5)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_clocks_are_measured(site: Site) -> None:
    async with fleet(site) as devices:
        with site.program("worker") as worker:
            await worker.ready()
            for device, ahead in (("right", 0), ("ahead", 200), ("behind", -3600)):
                await devices.reads(device, ahead=ahead)
            await until(lambda: measured(worker, 3), 40, lambda: worker.tail())
            skews = dict(map(tuple, await site.fetch("SELECT device_id, clock_skew FROM device_status")))
            assert abs(skews["right"]) < 30
            assert abs(skews["ahead"] - 200) < 30
            assert abs(skews["behind"] + 3600) < 30
            _, page = await worker.get("/metrics")
            assert 'iot_clock_skew_seconds_bucket{le="-60.0"} 1.0' in page
            assert 'iot_clock_skew_seconds_bucket{le="60.0"} 2.0' in page
            await devices.reads("ahead", temperature=90, ahead=200)
            await told_of_rule(site, "FIRING")

            async def over() -> bool:
                await devices.reads("ahead", temperature=20)  # set right by now
                return any(one["status"] == "RESOLVED" for one in await events(site))

            await until(over, 30, lambda: "the device is frozen until the time that it had")
            worker.stop()


async def measured(worker: Running, devices: int) -> bool:
    """Whether the clocks of so many have been looked at."""
    return (await gauges(worker)).get("iot_clock_skew_seconds_count") == devices


async def status_of(site: Site, node: str, status: str) -> None:
    """Wait until device_status says so of a node."""
    found: list[Any] = []

    async def there() -> bool:
        found[:] = await site.fetch("SELECT status FROM device_status WHERE device_key = $1", node)
        return [row["status"] for row in found] == [status]

    await until(there, 20, lambda: f"{node}: {status} wanted, {found}")


async def told_of_rule(site: Site, *statuses: str) -> list[dict[str, Any]]:
    """Wait until these statuses of the rule were sent; more may have been by then, as data are missed after 2 s."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = [one for one in await events(site) if one["rule_id"] == "temperature"][: len(statuses)]
        return [one["status"] for one in found] == list(statuses)

    await until(there, 40, lambda: f"{statuses} wanted, {found}")
    return found
