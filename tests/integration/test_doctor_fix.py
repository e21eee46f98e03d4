"""`iot-stream doctor --fix` on real servers: what is missing and safe to add is added, and nothing else."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.kafka.access import Access
from app.kafka.topics import TopicSpec, create, existing, wanted
from tests.servers import KafkaServer, MqttServer, PostgresServer
from tests.workers import ROOT, Site
from tools.command import Done, iot_stream

pytestmark = pytest.mark.integration


@pytest.fixture
def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """A database with the schema; no topics."""
    return Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)


@pytest.fixture
async def empty(site: Site, postgres: PostgresServer, unique: str) -> AsyncIterator[str]:
    """The URL of a database without any table."""
    name = f"{unique}_empty"
    admin = await asyncpg.connect(postgres.dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    yield postgres.dsn_of(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def fix(site: Site, *words: str, **settings: object) -> tuple[Done, list[str], list[dict[str, str]]]:
    """What came of `doctor --fix --yes --json`: the steps that were taken, and the findings afterwards."""
    values = {**site.values, "local_dir": site.directory / "local", **settings}
    done = await iot_stream(values, "doctor", "--fix", "--yes", "--json", *words)
    answer: dict[str, Any] = json.loads(done.out)
    return done, answer["fixed"], answer["findings"]


async def topics(site: Site) -> dict[str, int]:
    return await existing(Access(site.kafka), [topic.name for topic in wanted(site.settings)])


async def test_what_is_missing_is_made_once(site: Site) -> None:
    await site.fetch("ALTER TABLE raw_telemetry DROP COLUMN battery")
    await site.fetch("DROP TABLE gateway_tokens")
    await site.fetch("DELETE FROM iot_migrations WHERE version = 12")
    done, fixed, found = await fix(site)
    assert [one.split()[0] for one in fixed] == ["make", "take", "ALTER"]
    assert "0012 gateways" in fixed[1]
    assert "password" not in done.out
    assert set((await topics(site)).values()) == {site.settings.kafka_partitions}
    assert await site.fetch("SELECT battery FROM raw_telemetry") == []
    assert await site.fetch("SELECT FROM gateway_tokens") == []
    assert not [one for one in found if one["area"] in ("kafka", "database") and one["level"] == "broken"]
    assert (await fix(site))[1] == []


async def test_an_empty_database_gets_its_schema(site: Site, empty: str) -> None:
    _, fixed, found = await fix(site, database_url=empty)
    assert any(one.startswith("apply init.sql") for one in fixed)
    assert not [one for one in found if one["area"] == "database" and one["level"] != "ok"]


async def test_what_does_more_than_add_is_left_to_the_owner(site: Site) -> None:
    await create(Access(site.kafka), wanted(site.settings), 1)
    await site.fetch("DELETE FROM iot_migrations WHERE version >= 10")
    await site.fetch("ALTER TABLE raw_telemetry ALTER COLUMN battery TYPE text")
    _, fixed, found = await fix(site)
    assert fixed == []
    assert any("migrations the schema has not had: 0010" in one["what"] for one in found)
    assert any("battery is text" in one["what"] for one in found)


async def test_topics_that_differ_are_not_touched(site: Site) -> None:
    await create(Access(site.kafka), [TopicSpec(site.settings.kafka_topic, 3, {})], 1)
    _, fixed, found = await fix(site)
    assert fixed == []
    assert await topics(site) == {site.settings.kafka_topic: 3}
    assert any("is missing" in one["what"] for one in found)


async def test_an_account_that_may_not(site: Site, unique: str) -> None:
    await create(Access(site.kafka), wanted(site.settings), 1)
    await site.fetch("DELETE FROM iot_migrations WHERE version = 12")
    await site.fetch(f"CREATE ROLE {unique} LOGIN PASSWORD 'x'")
    await site.fetch(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {unique}")
    try:
        url = site.database.replace(site.database.split("//")[1].split("@")[0], f"{unique}:x")
        done, fixed, _ = await fix(site, database_url=url)
        assert (done.code, fixed) == (2, [])
        assert "not done: take the migrations 0012 gateways" in done.error
        assert "42501" in done.error
        assert "Traceback" not in done.error
    finally:
        await site.fetch(f"DROP OWNED BY {unique}")
        await site.fetch(f"DROP ROLE {unique}")


@pytest.mark.parametrize(("answer", "made"), [("n", False), ("y", True)])
async def test_a_person_is_asked(site: Site, answer: str, made: bool) -> None:
    environment = {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}
    environment |= {"IOT_LOCAL_DIR": str(site.directory / "local"), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    master, slave = pty.openpty()
    try:
        os.write(master, f"{answer}\n".encode())
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "app", "doctor", "--fix"], env=environment, cwd=ROOT, stdin=slave,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    finally:
        os.close(master)
        os.close(slave)
    assert f"to be done: make the topics {site.settings.kafka_topic}" in done.stdout, done
    assert ("done: make" in done.stdout.replace("to be done", "")) is made
    assert bool(await topics(site)) is made


async def test_nobody_is_there_to_be_asked(site: Site) -> None:
    done = await iot_stream(site.values, "doctor", "--fix")
    assert (done.code, "add --yes" in done.error) == (2, True)
    assert await topics(site) == {}
    done = await iot_stream(site.values, "doctor", "--yes")
    assert (done.code, "goes with --fix" in done.error) == (2, True)
