"""The whole path with real processes: MQTT, bridge, Kafka, worker, PostgreSQL, notifier, and MQTT again."""

import itertools
import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from app.core.deadletters.envelope import OWN_HEADERS
from app.runtime.version import VERSION
from tests.integration.bridges import Publisher, publisher
from tests.integration.test_notifier import listening
from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site, until
from tools.audit import Sent, audit, expected_alerts, header, read
from tools.faults.load import RULES, THRESHOLD, messages

pytestmark = pytest.mark.integration

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Topics and rules of this test alone; every alert is counted, so there is no budget of them."""
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"alerts_per_minute": 0})
    await made.prepare(RULES)
    return made


class Device:
    """A device that publishes as its user; every reading is newer than the one before."""

    def __init__(self, client: Publisher, user: str) -> None:
        self._client, self._user = client, user
        self.sequence = 0

    async def reads(self, **fields: object) -> None:
        """Publish one reading."""
        self.sequence += 1
        time = datetime.now(UTC).isoformat()
        await self.publishes(json.dumps({"time": time, "sequence_id": self.sequence, **fields}).encode())

    async def publishes(self, payload: bytes) -> None:
        """Publish bytes as telemetry."""
        await self._client.publish([(f"users/{self._user}/devices/d1/telemetry", payload)])

    async def manages(self, **command: object) -> None:
        """Publish a command."""
        await self._client.publish([(f"users/{self._user}/alerts/manage", json.dumps(command).encode())])

    async def configures(self, rules: list[dict[str, object]]) -> None:
        """Publish the user's rules."""
        await self._client.publish([(f"users/{self._user}/config", json.dumps(rules).encode())])


async def test_the_path(site: Site) -> None:
    async with listening(site.mqtt, site.unique) as heard, publisher(site.mqtt, f"device-{site.unique}") as client:
        with site.program("worker") as worker, site.program("notifier") as notifier, site.program("bridge") as bridge:
            for program in (worker, notifier, bridge):
                await program.ready()
            device = Device(client, site.unique)
            await a_reading_becomes_a_row(site, device)
            await an_alert_fires_and_resolves_once(device, heard)
            await bad_bytes_become_a_dead_letter(site, device)
            await changed_rules_are_picked_up(site, device, heard)
            await rules_come_over_mqtt(site, device, heard)
            await what_is_wrong_is_answered(site, device)
            await site.settled()
            await the_books_balance(worker, received=device.sequence + 4)
            await each_says_how_it_does(worker, bridge, notifier)
            for program in (bridge, worker, notifier):
                assert program.stop() < 10
    firing = [event["alert_id"] for event in heard if event["status"] == "FIRING"]
    assert [event["status"] for event in heard] == ["FIRING", "RESOLVED"] * 3
    assert [event["alert_id"] for event in heard if event["status"] == "RESOLVED"] == firing
    assert len(set(firing)) == 3


async def each_says_how_it_does(worker: Running, bridge: Running, notifier: Running) -> None:
    """What was sent before is done; all three have written, and are connected to what they use."""
    used = {
        "worker": (True, True, None),
        "bridge": (True, None, True),
        "notifier": (True, True, True),
    }
    for program in (worker, bridge, notifier):
        status, body = await idle(program)
        found = json.loads(body)
        assert (status, found["status"], found["program"]) == (200, "ok", program.name), body
        assert (found["kafka"], found["database"], found["mqtt"]) == used[program.name], body
        assert (found["queue_depth"], found["version"], all(found["checks"].values())) == (0, VERSION, True), body
        assert found["last_flush"]["rows"] >= 1
        assert found["mean_flush_seconds"] > 0
        assert 0 < found["uptime_seconds"] < 600
    await their_metrics_say_the_same(worker, bridge, notifier, found["app"])


async def idle(program: Running) -> tuple[int, str]:
    """/health of a program in which nothing waits any more: a last answer or note may still be on its way."""
    answer = (0, "")

    async def nothing_waits() -> bool:
        nonlocal answer
        answer = await program.get("/health")
        return bool(json.loads(answer[1])["queue_depth"] == 0)

    await until(nothing_waits, 10, lambda: answer[1])
    return answer


async def their_metrics_say_the_same(worker: Running, bridge: Running, notifier: Running, user: str) -> None:
    found = await samples(worker)
    assert 0 <= found["iot_tenant_freshness_seconds", user] < 120

    async def none_waits() -> bool:  # the figure is of the last look at the partitions, once a second
        now = await samples(worker)
        return {value for (name, _), value in now.items() if name == "iot_consumer_lag_seconds"} == {0.0}

    await until(none_waits, 10, lambda: "records wait")
    found = await samples(bridge)
    assert found["iot_bridge_payload_bytes_total", "telemetry"] > 1000
    assert (found["iot_bridge_waiting_seconds", ""], found["iot_bridge_paused", ""]) == (0, 0)
    assert found["iot_bridge_kafka_connected", ""] == 1

    async def none_in_hand() -> bool:  # this figure too is of the last look
        now = await samples(notifier)
        return now["iot_notifier_in_hand", "notifier"] == now["iot_notifier_consumer_lag", "notifier"] == 0

    await until(none_in_hand, 10, lambda: "the notifier has events in hand")
    found = await samples(notifier)
    assert found["iot_notifier_taken_total", "notifier"] >= 6
    assert found["iot_notifier_connected", ""] == 1
    assert found["iot_notifier_publish_seconds_count", ""] >= 6


async def samples(program: Running) -> dict[tuple[str, str], float]:
    """Every sample of a program's metrics, in OpenMetrics, by name and the values of its labels."""
    _, page = await program.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    return {
        (one.name, " ".join(one.labels.values())): one.value
        for family in openmetrics(page)  # type: ignore[no-untyped-call]  # it has no types
        for one in family.samples
    }


async def a_reading_becomes_a_row(site: Site, device: Device) -> None:
    await device.reads(temperature=21.5, battery=90, engine={"rpm": 12345678901234567890}, traceparent=PARENT)

    async def stored() -> bool:
        return len(await site.fetch("SELECT FROM raw_telemetry")) == 1

    await until(stored, 10, lambda: "the reading is not in raw_telemetry")
    (row,) = await site.fetch("SELECT * FROM raw_telemetry")
    assert (row["user_id"], row["device_id"], row["sequence_id"]) == (site.unique, "d1", 1)
    assert (row["temperature"], row["battery"]) == (21.5, 90)
    assert json.loads(row["extra_data"])["engine"] == {"rpm": 12345678901234567890}


async def an_alert_fires_and_resolves_once(device: Device, heard: list[dict[str, Any]]) -> None:
    for temperature in (79, THRESHOLD, 81, 95, 90, 79, 70):
        await device.reads(temperature=temperature, traceparent=PARENT)
    await until(lambda: at_least(heard, 2), 10, lambda: f"heard {heard}")
    first, second = heard
    assert (first["status"], first["value"], first["threshold"]) == ("FIRING", 81, THRESHOLD)
    assert (second["status"], second["value"]) == ("RESOLVED", 79)
    assert first["alert_id"] == second["alert_id"]
    assert (first["device_id"], first["rule_id"], first["message"]) == ("d1", "temperature", "too hot")
    assert first["traceparent"].split("-")[1] == PARENT.split("-")[1]


async def bad_bytes_become_a_dead_letter(site: Site, device: Device) -> None:
    payload = bytes(range(256))
    await device.publishes(payload)

    async def there() -> bool:
        return sum((await site.ends(site.settings.kafka_dlq_topic)).values()) == 1

    await until(there, 10, lambda: "no dead letter came")
    (letter,) = await read(site, site.settings.kafka_dlq_topic)
    (original,) = [r for r in await read(site, site.settings.kafka_topic) if r.value == payload]
    assert letter.key == original.key == f"{site.unique}/d1".encode()
    assert [one for one in letter.headers if one[0] not in OWN_HEADERS] == list(original.headers)
    assert header(letter, "x-original-offset") == b"%d" % original.offset
    assert header(letter, "reason") == b"bad_encoding"
    envelope = json.loads(letter.value)
    assert envelope["original_topic"] == f"users/{site.unique}/devices/d1/telemetry"
    assert (envelope["source"]["partition"], envelope["source"]["offset"]) == (original.partition, original.offset)


async def changed_rules_are_picked_up(site: Site, device: Device, heard: list[dict[str, Any]]) -> None:
    await site.set_rules([{"key": "engine.oil", "operator": "<", "threshold": 2, "message": "no oil"}])
    await fires_and_resolves(device, heard, {"engine": {"oil": 1}}, {"engine": {"oil": 3}}, 4)
    assert heard[2]["rule_id"] == "engine.oil"


async def rules_come_over_mqtt(site: Site, device: Device, heard: list[dict[str, Any]]) -> None:
    rules: list[dict[str, object]] = [{"key": "battery", "operator": "<", "threshold": 5, "message": "empty"}]
    await device.configures(rules)
    await fires_and_resolves(device, heard, {"battery": 4}, {"battery": 80}, 6)
    assert heard[4]["rule_id"] == "battery"
    (row,) = await site.fetch("SELECT rules FROM user_configs")
    assert json.loads(row["rules"]) == rules


async def what_is_wrong_is_answered(site: Site, device: Device) -> None:
    before = await site.fetch("SELECT rules FROM user_configs")
    async with (
        listening(site.mqtt, site.unique, "config/errors") as refused,
        listening(site.mqtt, site.unique, "alerts/errors") as wrong,
    ):
        await device.configures([{"key": "battery", "operator": "<", "threshold": "5", "message": "empty"}])
        await device.manages(device_id="d1", rule_id="battery", action="SNOOZ")
        await until(lambda: at_least(refused, 1), 10, lambda: "no answer to the wrong rules")
        await until(lambda: at_least(wrong, 1), 10, lambda: "no answer to the wrong command")
    assert refused[0]["error"].startswith('rules[0].threshold: "5" is not a number')
    assert "'SNOOZ'" in wrong[0]["error"]
    assert await site.fetch("SELECT rules FROM user_configs") == before


async def fires_and_resolves(
    device: Device, heard: list[dict[str, Any]], bad: dict[str, object], good: dict[str, object], count: int
) -> None:
    """Repeat the bad reading until a rule that is just being loaded takes it, then send the good one."""

    async def fired() -> bool:
        await device.reads(**bad)
        return len(heard) >= count - 1

    await until(fired, 15, lambda: f"the new rule did not fire; heard {heard}")
    await device.reads(**good)
    await until(lambda: at_least(heard, count), 10, lambda: f"heard {heard}")


async def at_least(heard: list[dict[str, Any]], count: int) -> bool:
    """Whether that many messages have arrived."""
    return len(heard) >= count


async def ledger(worker: Running) -> dict[str, dict[str, int]]:
    """{partition: {outcome: records}} as the worker's /metrics report since its start."""
    books: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for family in text_string_to_metric_families((await worker.get("/metrics"))[1]):
        for sample in family.samples:
            if sample.name == "iot_ledger_total":
                books[sample.labels["partition"]][sample.labels["outcome"]] += int(sample.value)
    return books


async def the_books_balance(worker: Running, received: int) -> dict[str, int]:
    """received = stored + duplicate + dead_lettered + dropped_by_policy, per partition; the sums."""
    totals: dict[str, int] = defaultdict(int)
    for partition, books in (await ledger(worker)).items():
        ends = ("stored", "duplicate", "dead_lettered", "dropped_by_policy")
        assert books["received"] == sum(books[outcome] for outcome in ends), (partition, dict(books))
        for outcome, count in books.items():
            totals[outcome] += count
    assert totals["received"] == received
    return totals


async def test_a_clean_stop_commits_everything_and_a_replay_changes_nothing(site: Site) -> None:
    sent = list(itertools.islice(messages(site.unique, seed=8), 12_000))
    alerts = expected_alerts(sent, THRESHOLD)
    assert len(alerts) > 300
    async with listening(site.mqtt, site.unique) as heard:
        with site.program("notifier"), site.program("worker") as worker:
            await produce(site, sent)
            await worker.ready()
            await site.settled()
            books = await audit(site, sent, alerts, heard)
            books.must_balance()
            await the_books_balance(worker, received=len(sent))
            assert worker.stop() < 10
            await nothing_is_read_again(site, worker)
            for forgotten in (False, True):  # the state on disk, then what the changelog gives back
                if forgotten:
                    worker.forget()
                totals = await replay(site, worker, len(sent))
                assert totals == {"received": len(sent), "duplicate": books.rows, "dead_lettered": books.dead}
            again = await audit(site, sent, alerts, heard)
            again.must_balance()
            assert again == books


async def nothing_is_read_again(site: Site, worker: Running) -> None:
    """After a clean stop, a restart takes only what is new."""
    worker.start()
    await worker.ready()
    await site.settled_input()
    await the_books_balance(worker, received=0)
    worker.stop()


async def replay(site: Site, worker: Running, count: int) -> dict[str, int]:
    """Start with the group's offsets at 0, until all is committed again; what the worker counted."""
    topic, ends = site.settings.kafka_topic, await site.ends()
    options = {"group_id": site.settings.group_id, "enable_auto_commit": False}
    async with AIOKafkaConsumer(bootstrap_servers=site.kafka, **options) as consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in ends])
        await consumer.commit({TopicPartition(topic, partition): 0 for partition in ends})
    assert set((await site.committed()).values()) == {0}
    worker.start()
    await worker.ready()
    await site.settled()
    totals = await the_books_balance(worker, received=count)
    worker.stop()
    return {outcome: count for outcome, count in totals.items() if count}


async def produce(site: Site, sent: list[Sent]) -> None:
    """Put messages on the input topic, as the bridge would."""
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, linger_ms=5) as producer:
        for one in sent:
            headers = [("mqtt_topic", one.topic.encode()), ("kind", b"telemetry")]
            await producer.send(site.settings.kafka_topic, one.payload, key=one.key, headers=headers)
        await producer.flush()
