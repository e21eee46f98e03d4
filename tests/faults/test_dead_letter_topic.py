"""Too many dead letters stop the worker; a dead-letter topic that is gone or too small holds it. Nothing is lost."""

import asyncio
import itertools
import json
import os
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.kafka.access import Access
from app.kafka.topics import create, wanted
from app.local.servers.kafka import Kafka
from app.local.servers.kafka_jars import kafka_jars
from app.runtime.ending.exit_codes import ExitCode
from tests.servers import MqttServer
from tests.workers import Running, Site, until
from tools.audit import Sent, audit, expected_alerts, header, read
from tools.faults.load import RULES, THRESHOLD, messages

pytestmark = [pytest.mark.faults, pytest.mark.integration]

LIMIT = 300


def wrong_schema(name: str, first: int, count: int) -> list[Sent]:
    """Each of 200 users sends what no worker reads: of 3,000 records each user counts for LIMIT / 10 at most."""
    found = []
    for n in range(first, first + count):
        user, device = f"{name}{n % 200}", "d"
        payload = json.dumps({"schema": 2, "data": {"n": n}}).encode()
        found.append(
            Sent(f"users/{user}/devices/{device}/telemetry", f"{user}/{device}".encode(), payload, "missing_field")
        )
    return found


async def send(site: Site, sent: list[Sent]) -> None:
    """Write messages to the input topic, as a bridge would."""
    async with AIOKafkaProducer(
        bootstrap_servers=site.kafka, linger_ms=5, max_request_size=4 << 20, max_batch_size=1 << 14
    ) as producer:
        pending = []
        for one in sent:
            headers = [("mqtt_topic", one.topic.encode()), ("kind", b"telemetry")]
            pending.append(await producer.send(site.settings.kafka_topic, one.payload, key=one.key, headers=headers))
        await asyncio.gather(*pending)


def some(site: Site, count: int, seed: int) -> list[Sent]:
    """A mix of good and bad messages."""
    return list(itertools.islice(messages(f"{site.unique}", seed), count))


async def letters(site: Site) -> Counter[tuple[int, int]]:
    """(partition, offset) of the records that are on the dead-letter topic."""
    sources = [json.loads(one.value)["source"] for one in await read(site, site.settings.kafka_dlq_topic)]
    return Counter((source["partition"], source["offset"]) for source in sources)


def ended(worker: Running, seconds: float = 60) -> int:
    """Wait until the program has ended by itself; its exit code."""
    assert worker._process
    return worker._process.wait(seconds)


async def test_a_wrong_schema_stops_the_worker_before_it_dumps_the_topic(site: Site) -> None:
    site = replace(site, more={"dead_letters_in_a_row": LIMIT})
    good = [one for one in some(site, 400, seed=1) if one.reason is None]
    foreign = wrong_schema(site.unique, 0, 3000)
    with site.program("worker") as worker:
        await send(site, good)
        await worker.ready()
        await site.settled_input()
        await send(site, foreign)
        assert await asyncio.to_thread(ended, worker) == ExitCode.DEAD_LETTERS
        said = worker.tail()
        assert f"too many dead letters: more than {LIMIT} records in a row" in said
        assert "missing_field" in said
        assert "IOT_DEAD_LETTERS_IN_A_ROW" in said
        assert len(await letters(site)) <= LIMIT
        for _ in range(2):  # as a supervisor would
            worker.start()
            assert await asyncio.to_thread(ended, worker) == ExitCode.DEAD_LETTERS
        found = await letters(site)
        assert set(found.values()) <= {1}
        assert len(found) <= 3 * LIMIT
    willing = replace(site, more={"dead_letters_in_a_row": 0, "dead_letters_ratio": 1.0})
    with willing.program("worker"):
        await willing.settled_input()
    (await audit(willing, good + foreign, expected_alerts(good, THRESHOLD))).must_balance()


async def held(worker: Running, *words: str) -> None:
    """Wait until it says, everywhere, that Kafka does not take its dead letters."""

    async def says_so() -> bool:
        status, body = await worker.get("/ready")
        if status != 503 or json.loads(body)["checks"]["kafka_writes"]:
            return False
        advice = json.loads(body)["advice"][worker_topic(worker)]
        return all(word in advice for word in words)

    await until(says_so, 60, worker.tail)
    metrics = (await worker.get("/metrics"))[1]
    assert f'iot_kafka_write_held{{topic="{worker_topic(worker)}"}} 1.0' in metrics
    reported = worker.events("operator_needed")
    assert reported, worker.tail()
    assert all(word in reported[-1]["what"] for word in words)


def worker_topic(worker: Running) -> str:
    return worker._environment["IOT_KAFKA_DLQ_TOPIC"]


async def admin(site: Site, verb: str, *args: Any) -> None:
    """Send a request of an administrator."""
    client = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await client.start()
    try:
        await getattr(client, verb)(*args)
    finally:
        await client.close()


async def test_the_topic_is_deleted_in_mid_run_and_made_again(site: Site) -> None:
    with site.program("worker") as worker:
        before = some(site, 1000, seed=2)
        await send(site, before)
        await worker.ready()
        await site.settled_input()
        assert len(await letters(site)) == sum(one.reason is not None for one in before)
        await admin(site, "delete_topics", [site.settings.kafka_dlq_topic])
        committed, ends = await site.committed(), await site.ends()
        after = [one._replace(payload=one.payload + b" ") for one in some(site, 2000, seed=3)][1000:]
        await send(site, after)
        await held(worker, "iot-stream topics create")
        assert await asyncio.to_thread(worker.stop) < 6
        worker.start()
        await create(Access(site.kafka), wanted(site.settings), 1)
        await site.settled_input()
        assert sum(committed.values()) < sum((await site.committed()).values())
    records = await read(site, site.settings.kafka_topic)
    reasons = {(one.topic.encode(), one.payload) for one in after if one.reason}
    bad = {(r.partition, r.offset) for r in records if (header(r, "mqtt_topic"), r.value) in reasons}
    found = await letters(site)
    assert {where for where in found if where[1] >= ends[where[0]]} == bad  # letters before these went with the topic
    assert set(found.values()) == {1}
    rows = await site.fetch("SELECT count(*) FROM raw_telemetry")
    assert rows[0][0] == len({one.payload.strip() for one in before + after if one.reason is None})


async def test_a_dead_letter_of_a_mebibyte_fits_and_a_topic_that_is_too_small_is_named(site: Site) -> None:
    topic = site.settings.kafka_dlq_topic
    await admin(
        site, "alter_configs", [ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "900000"})]
    )
    key = f"{site.unique}/d1"
    large = Sent(f"users/{key.replace('/', '/devices/')}/telemetry", key.encode(), os.urandom(1 << 20), "bad_encoding")
    with site.program("worker") as worker:
        await send(site, [large])
        await held(worker, "max.message.bytes", topic)
        await admin(
            site, "alter_configs", [ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "2097152"})]
        )
        await site.settled_input()
        await worker.ready()
    (await audit(site, [large])).must_balance()


class GuardedKafka(Kafka):
    """A broker that knows access rights; whoever no right is given or denied for may do everything."""

    def _configure(self) -> Path:
        properties = super()._configure()
        with properties.open("a") as file:
            file.write("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n")
            file.write("allow.everyone.if.no.acl.found=true\n")
        return properties

    def acl(self, *arguments: str) -> None:
        """Kafka's own command for access rights."""
        command = ["java", "-cp", f"{kafka_jars()}/*", "org.apache.kafka.tools.AclCommand"]
        subprocess.run([*command, "--bootstrap-server", self.bootstrap, "--force", *arguments], check=True, timeout=60)


@pytest.mark.skipif(os.environ.get("IOT_FAULTS") != "full", reason="a broker of its own; with IOT_FAULTS=full")
async def test_the_right_to_write_is_taken_away_and_given_back(
    server_dir: Path, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    kafka = GuardedKafka(server_dir / "kafka")
    kafka.start()
    try:
        await asyncio.to_thread(kafka.wait_ready)
        site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)
        await site.prepare(RULES)
        rights = [
            "--deny-principal",
            "User:ANONYMOUS",
            "--operation",
            "Write",
            "--topic",
            site.settings.kafka_dlq_topic,
        ]
        with site.program("worker") as worker:
            await asyncio.to_thread(kafka.acl, "--add", *rights)
            sent = some(site, 1000, seed=4)
            await send(site, sent)
            await held(worker, "ACLs Write and Describe")
            await asyncio.to_thread(kafka.acl, "--remove", *rights)
            await site.settled_input()
            await worker.ready()
        (await audit(site, sent, expected_alerts(sent, THRESHOLD))).must_balance()
    finally:
        await asyncio.to_thread(kafka.stop)
