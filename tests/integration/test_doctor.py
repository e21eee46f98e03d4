"""`iot-stream doctor` against real servers and a real worker: all well, and each part broken on purpose."""

import asyncio
import itertools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from pydantic import SecretStr

from app.doctor import count, database, kafka, mqtt
from app.doctor.finding import Finding, Level
from app.kafka.access import Access
from app.kafka.topics import create, wanted
from app.postgres.schema import telemetry_table
from app.postgres.sqlstate import KNOWN, UNKNOWN
from app.settings import Settings
from tests.faults.test_dead_letter_topic import send
from tests.servers import KafkaServer, MqttServer
from tests.workers import ROOT, Running, Site
from tools.audit import audit, expected_alerts
from tools.command import iot_stream
from tools.faults.load import RULES, THRESHOLD, messages

pytestmark = pytest.mark.integration


@pytest.fixture
def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Nothing made yet but the database."""
    return Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)


async def ask(site: Site, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    """Exit code and findings of the command."""
    environment = {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "doctor", "--json", *arguments,
        env={**os.environ, **environment}, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await asyncio.wait_for(process.communicate(), 60)
    assert not error, error.decode()
    answer = json.loads(out)
    assert answer["status"] == ("ok", "warning", "broken")[process.returncode or 0]
    return process.returncode or 0, answer["findings"]


def metrics_url(worker: Running) -> str:
    return f"http://127.0.0.1:{worker.events('worker_starting')[-1]['metrics_port']}"


async def test_all_is_well_until_rows_vanish(site: Site) -> None:
    await site.prepare(RULES)
    sent = list(itertools.islice(messages(site.unique, seed=8), 3000))
    with site.program("worker") as worker:
        await send(site, sent)
        await worker.ready()
        await site.settled_input()
        code, found = await ask(site, "--metrics", metrics_url(worker), "--watch", "0.5", "--count", "100")
        assert code == 0, [one for one in found if one["level"] != "ok"]
        said = "\n".join(one["what"] for one in found)
        for words in (
            "group iot-", "1 worker", "0 records wait", "set as it must be", "its clock is right", "rules of 1 user",
            "is let in at", "bad_json", "the books balance, 3,000 records", "0 records more after 0.5 s",
            "none is missing",
        ):  # fmt: skip
            assert words in said
        (await audit(site, sent, expected_alerts(sent, THRESHOLD))).must_balance()
        gone = await site.fetch(
            "DELETE FROM raw_telemetry WHERE sequence_id = (SELECT max(sequence_id) FROM raw_telemetry)"
            " AND device_id IN ('d1', 'd2') RETURNING device_id, sequence_id"
        )
        assert gone
        code, found = await ask(site, "--metrics", metrics_url(worker), "--count", "100")
        assert code == 2
        missing = [one for one in found if one["level"] == "broken"]
        assert all(one["area"] == "count" for one in missing)
        for device, sequence in map(tuple, gone):
            assert any(f"{site.unique}/{device}, sequence_id {sequence}" in one["what"] for one in missing)
        cures = [re.findall(r"iot-stream (history reset --offset \S+ --yes)", one["cure"]) for one in missing]
        assert (await audit(site, sent, expected_alerts(sent, THRESHOLD))).problems
        worker.stop()
        for (cure,) in cures:
            done = await iot_stream(site.values, *cure.split(), "--wait", "60")
            assert done.code == 0, done
        worker.start()
        await worker.ready()
        await site.settled_input()
        code, found = await ask(site, "--metrics", metrics_url(worker), "--count", "100")
        assert code == 0, [one for one in found if one["level"] != "ok"]


async def test_a_dead_letter_that_vanished_is_missed(site: Site) -> None:
    await site.prepare(RULES)
    sent = [one for one in itertools.islice(messages(site.unique, seed=9), 3000) if one.reason][:20]
    with site.program("worker") as worker:
        await send(site, sent)
        await worker.ready()
        await site.settled_input()
        assert [one.level for one in await count.look(site.settings, 100)] == [Level.OK]
        await admin(site, "delete_topics", [site.settings.kafka_dlq_topic])
        await create(Access(site.kafka), wanted(site.settings), 1)
        found = await count.look(site.settings, 100)
    assert {one.level for one in found} == {Level.BROKEN}
    assert sum(int(one.what.split(": ")[1].split()[0]) for one in found) == 20


async def admin(site: Site, verb: str, *args: Any) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await client.start()
    try:
        await getattr(client, verb)(*args)
    finally:
        await client.close()


def reported(findings: list[Finding], level: Level, *words: str) -> None:
    """Some finding of that level has all the words, and says what to do."""
    matching = [one for one in findings if one.level is level and all(word in one.what for word in words)]
    assert matching, findings
    assert all(one.cure for one in matching)


async def test_nobody_answers(site: Site) -> None:
    nowhere = site.settings.model_copy(
        update={
            "kafka_broker": "127.0.0.1:1",
            "mqtt_port": 1,
            "database_url": SecretStr("postgresql://iot@127.0.0.1:1/iot"),
        }
    )
    for look, words in ((kafka.look, "not answer"), (database.look, "not answer"), (mqtt.look, "no way into")):
        found = await look(nowhere)
        assert [one.level for one in found] == [Level.BROKEN]
        reported(found, Level.BROKEN, words)


async def test_a_schema_that_is_older_or_newer(site: Site) -> None:
    assert not [one for one in await database.look(site.settings) if one.level is not Level.OK]
    await site.fetch("DELETE FROM iot_migrations WHERE version = 3")
    await site.fetch("INSERT INTO iot_migrations VALUES (9001, 'of_tomorrow', 'x')")
    found = await database.look(site.settings)
    reported(found, Level.WARNING, "0003 accounts", "has not had")
    reported(found, Level.WARNING, "9001 of_tomorrow", "older than the database")
    await site.fetch("DROP TABLE iot_migrations")
    reported(await database.look(site.settings), Level.WARNING, "a version without migrations")


async def test_topics_that_are_missing_or_wrong(site: Site) -> None:
    settings = site.settings
    found = await kafka.look(settings)
    for topic in wanted(settings):
        reported(found, Level.BROKEN, f"the topic {topic.name} is missing")
    await create(Access(site.kafka), wanted(settings), 1)
    found = await kafka.look(settings)
    assert [one for one in found if one.level is Level.BROKEN] == []
    reported(found, Level.WARNING, "no worker runs")
    for name, wrong in (
        (settings.kafka_topic, {"cleanup.policy": "compact", "retention.ms": "1000"}),
        (settings.kafka_dlq_topic, {"max.message.bytes": "1000000"}),
        (f"{settings.group_id}-state-changelog", {"cleanup.policy": "delete"}),
    ):
        await admin(site, "alter_configs", [ConfigResource(ConfigResourceType.TOPIC, name, wrong)])
    found = await kafka.look(settings)
    reported(found, Level.BROKEN, settings.kafka_topic, "cleanup.policy is compact")
    reported(found, Level.WARNING, settings.kafka_topic, "retention.ms is 1000")
    reported(found, Level.WARNING, settings.kafka_dlq_topic, "max.message.bytes is 1000000")
    reported(found, Level.BROKEN, "changelog", "cleanup.policy is delete")
    reported(
        await kafka.look(settings.model_copy(update={"kafka_partitions": 5})), Level.BROKEN, "12 partitions", "say 5"
    )


async def test_offsets_outside_the_log(site: Site) -> None:
    topic = site.settings.kafka_topic
    await create(Access(site.kafka), wanted(site.settings), 1)
    await send(site, list(itertools.islice(messages(site.unique, seed=10), 600)))
    async with AIOKafkaConsumer(bootstrap_servers=site.kafka, group_id=site.settings.group_id) as consumer:
        consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
        await consumer.commit({TopicPartition(topic, 0): 1, TopicPartition(topic, 1): 10**6})
    await admin(site, "delete_records", {TopicPartition(topic, 0): RecordsToDelete(before_offset=3)})
    found = await kafka.look(site.settings)
    reported(found, Level.BROKEN, f"{topic}-0", "2 records were removed by retention")
    reported(found, Level.BROKEN, f"{topic}-1", "1000000 is after the end of the log", "made again")


async def test_a_database_without_schema_rights_or_key(site: Site, unique: str) -> None:
    await site.fetch("ALTER TABLE raw_telemetry DROP CONSTRAINT raw_telemetry_pkey")
    await site.fetch("ALTER TABLE raw_telemetry DROP COLUMN battery")
    await site.fetch("DROP TABLE alert_history")
    await site.fetch("INSERT INTO user_configs (user_id, rules) VALUES ('bob', '[{\"key\": 5}]')")
    found = await database.look(site.settings)
    reported(found, Level.BROKEN, "no unique key")
    reported(found, Level.BROKEN, "no column battery")
    reported(found, Level.BROKEN, "alert_history is missing")
    reported(found, Level.WARNING, "the rules of bob are refused")
    await site.fetch(f"CREATE ROLE {unique} LOGIN PASSWORD 'x'")
    try:
        dsn = site.database.replace(site.database.split("//")[1].split("@")[0], f"{unique}:x")
        limited = await database.look(Settings(**{**site.values, "database_url": dsn}))  # type: ignore[arg-type]
        reported(limited, Level.BROKEN, "may not SELECT, INSERT on raw_telemetry")
        refused = await database.look(
            Settings(**{**site.values, "database_url": dsn.replace(":x@", ":wrong@")})  # type: ignore[arg-type]
        )
        reported(refused, Level.BROKEN, "not answer", "28P01")
        assert "wrong" not in str(refused)
    finally:
        await site.fetch(f"DROP ROLE {unique}")


@pytest.mark.parametrize(
    ("change", "stopped", "cure"),
    [
        ("ALTER TABLE active_alerts DROP COLUMN way", "delete_active_alert", KNOWN["42703"].advice),
        ("ALTER TABLE user_configs DROP COLUMN accepted", "read_configs", KNOWN["42703"].advice),
        ("ALTER TABLE device_status DROP CONSTRAINT device_status_pkey", "upsert_status", UNKNOWN.advice),
    ],
)
async def test_a_schema_that_stops_a_worker_is_broken(site: Site, change: str, stopped: str, cure: str) -> None:
    await site.fetch(change)
    found = [one for one in await database.look(site.settings) if one.level is not Level.OK]
    assert {(one.level, one.cure) for one in found} == {(Level.BROKEN, cure)}
    assert any(stopped in one.what for one in found)


async def test_columns_have_the_cure_of_the_workers_log(site: Site) -> None:
    await site.fetch("ALTER TABLE raw_telemetry ALTER COLUMN battery TYPE text")
    connection = await asyncpg.connect(site.database)
    (differing,) = await telemetry_table.differences(connection, site.settings.telemetry_schema)
    await connection.close()
    (found,) = [one for one in await database.look(site.settings) if one.level is not Level.OK]
    assert (found.level, found.what, found.cure) == (Level.BROKEN, differing.what, differing.cure)


async def test_a_read_only_database(site: Site, unique: str) -> None:
    connection = await asyncpg.connect(site.database)
    await connection.execute(f"ALTER DATABASE {unique} SET default_transaction_read_only = on")
    await connection.close()
    reported(await database.look(site.settings), Level.BROKEN, "read-only")


async def test_an_account_the_broker_does_not_know(site: Site) -> None:
    stranger = site.settings.model_copy(update={"mqtt_username": "stranger"})
    reported(await mqtt.look(stranger), Level.BROKEN, "refuses stranger")


async def test_what_a_transaction_has_taken_back_is_not_missed(site: Site) -> None:
    await site.prepare(RULES)
    topic = site.settings.kafka_topic
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, transactional_id=site.unique) as producer:
        await producer.begin_transaction()
        for _ in range(3):
            await producer.send_and_wait(topic, b"{}", partition=0)
        await producer.abort_transaction()
    async with AIOKafkaConsumer(bootstrap_servers=site.kafka, group_id=site.settings.group_id) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): 4})  # as a worker does that has read them
    (found,) = await count.look(site.settings, 100)
    assert (found.level, found.what.split(";")[1]) == (Level.OK, " none is missing")
