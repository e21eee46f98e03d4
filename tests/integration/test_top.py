"""`iot-stream top` against real servers and programs: all of it, a worker that dies and comes back, Kafka alone."""

import asyncio
import dataclasses
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.local.servers.common import free_port
from app.settings import Settings
from app.top.sources.database import DatabaseSource
from app.top.sources.group import GroupSource
from tests.faults.test_dead_letter_topic import send
from tests.servers import KafkaServer, MqttServer
from tests.workers import ROOT, Running, Site, until
from tools.command import iot_stream
from tools.faults.load import RULES, messages

pytestmark = pytest.mark.integration


@pytest.fixture
def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """With topics, without programs."""
    return Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)


def at(site: Site, port: int) -> Site:
    """The same, for a program with its metrics at this port, also when it is started again."""
    return dataclasses.replace(site, more={**site.more, "metrics_port": port})


def options(*ports: int) -> list[str]:
    return [word for port in ports for word in ("--metrics", f"127.0.0.1:{port}")]


async def test_a_whole_deployment(site: Site) -> None:
    await site.prepare(RULES)
    sent = list(itertools.islice(messages(site.unique, seed=5), 2000))
    worker, bridge, notifier, nobody = (free_port() for _ in range(4))
    with (
        at(site, worker).program("worker") as running,
        at(site, bridge).program("bridge") as other,
        at(site, notifier).program("notifier") as third,
    ):
        await send(site, sent)
        for one in (running, other, third):
            await one.ready()
        await site.settled()
        await until(lambda: _says_no_lag(running), 20, lambda: "the worker has not looked at its lag since")
        where = options(worker, bridge, notifier, nobody)
        done = await iot_stream(site.values, "top", "--once", "--json", "--interval", "0.5", *where)
        _is_whole(site, done.json, await site.fetch("SELECT FROM active_alerts"))
        page = await iot_stream(site.values, "top", "--once", "--interval", "0.5", *where)
        said = " ".join(page.out.split())
        for words in ("worker 1 up", "bridge up", "notifier up", "Connection refused", "received 2,000", "1 member"):
            assert words in said
        assert page.error == ""
        device = DatabaseSource(site.settings)
        found = await device.device(site.unique, "d1")
        await device.close()
        assert found.problem == ""
        assert len(found.readings) == 10
        assert found.readings[0].time > found.readings[-1].time
        assert "temperature" in json.loads(found.readings[0].values)


async def _says_no_lag(worker: Running) -> bool:
    said = [line for line in (await worker.get("/metrics"))[1].splitlines() if line.startswith("iot_consumer_lag{")]
    return bool(said) and all(line.endswith(" 0.0") for line in said)


def _is_whole(site: Site, found: Any, alerts: list[Any]) -> None:
    assert [(one["name"], one["up"], one["ready"]) for one in found["programs"][:3]] == [
        ("worker 1", True, True), ("bridge", True, True), ("notifier", True, True),
    ]  # fmt: skip
    assert (found["programs"][3]["up"], found["programs"][3]["problem"]) == (False, "Connection refused")
    assert all(one["memory"] > 1 << 20 and one["cpu"] is not None for one in found["programs"][:3])
    assert found["books"]["received"] == 2000
    assert found["books"]["difference"] == 0
    assert found["totals"]["lag"] == 0
    assert found["totals"]["breaker"] == "closed"
    assert found["totals"]["open_alerts"] == len(alerts) == len(found["alerts"]) > 0
    partitions = found["partitions"]
    assert len(partitions) == site.settings.kafka_partitions
    assert {one["owner"] for one in partitions} == {"worker 1"}
    assert sum(one["received"] for one in partitions) == 2000
    assert sum(one["committed"] or 0 for one in partitions) == sum(one["end"] for one in partitions) == 2000
    assert (found["group"], found["problems"]) == (f"{site.settings.group_id}: Stable, 1 member", [])


@asynccontextmanager
async def watching(site: Site, *words: str) -> AsyncIterator[asyncio.StreamReader]:
    """A `top --json` that goes on, and its lines."""
    environment = {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "top", "--json", "--interval", "0.3", *words, cwd=ROOT,
        env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    try:
        yield process.stdout
        process.terminate()
        await asyncio.wait_for(process.stdout.read(), 20)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert await process.stderr.read() == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def seen(lines: asyncio.StreamReader, received: float, up: bool = True) -> list[Any]:
    """Pictures up to the one with a worker that is up, or not, and has received that much in all."""
    pictures: list[Any] = []
    async with asyncio.timeout(60):
        while True:
            pictures.append(json.loads(await lines.readline()))
            last = pictures[-1]
            if (last["books"]["received"], last["programs"][0]["up"]) == (received, up):
                return pictures


async def test_counts_survive_a_worker_that_is_killed(site: Site) -> None:
    await site.prepare(RULES)
    sent = list(itertools.islice(messages(site.unique, seed=6), 3000))
    port = free_port()
    with at(site, port).program("worker") as worker:
        await worker.ready()
        async with watching(site, *options(port)) as lines:
            await send(site, sent[:2000])
            pictures = await seen(lines, 2000)
            await site.settled_input()
            worker.kill()
            down = await seen(lines, 2000, up=False)
            while down[-1]["programs"][0]["problem"] != "Connection refused":  # it may have died in mid-answer
                down += await seen(lines, 2000, up=False)
            worker.start()
            await send(site, sent[2000:])
            pictures += down + await seen(lines, 3000)
    assert all(picture["books"]["difference"] == 0 for picture in pictures)
    rates = [picture["totals"]["rows_per_second"] for picture in pictures]
    assert min(rate for rate in rates if rate is not None) >= 0
    assert max(rate for rate in rates if rate is not None) > 0
    counts = [picture["books"]["received"] for picture in pictures]
    assert counts == sorted(counts)
    assert sum(one["received"] for one in pictures[-1]["partitions"]) == 3000


async def test_kafka_alone_knows_the_lag_and_who_has_what(site: Site) -> None:
    await site.prepare(RULES)
    sent = list(itertools.islice(messages(site.unique, seed=7), 600))
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, sent[:500])
        await site.settled_input()
        alone = {name: value for name, value in site.values.items() if name != "database_url"}
        found = (await iot_stream(alone, "top", "--once", "--json", "--interval", "0.5")).json
        assert found["programs"] == []
        assert found["totals"]["lag"] == 0
        owners = {one["owner"] for one in found["partitions"]}
        assert len(owners) == 1
        assert owners.pop().endswith("@127.0.0.1")
        worker.stop()
    await send(site, sent[500:])
    source = GroupSource(site.settings)
    try:
        answer = await source.ask(times=True)
    finally:
        await source.close()
    assert answer.problem == ""
    assert sum(answer.ends.values()) - sum(answer.committed.values()) == 100
    assert answer.waiting_since
    assert (answer.members, answer.owners) == (0, {})
    found = (await iot_stream(alone, "top", "--once", "--json", "--interval", "0.5")).json
    assert found["totals"]["lag"] == 100
    assert found["totals"]["lag_seconds"] > 0


async def test_a_topic_that_is_missing_is_said_and_not_made(site: Site) -> None:
    source = GroupSource(site.settings)
    try:
        for _ in range(2):
            assert (await source.ask(times=True)).problem == f"Kafka has no topic {site.settings.kafka_topic}"
    finally:
        await source.close()


async def test_ctrl_c_does_not_wait_for_a_program_that_says_nothing() -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "top", "--metrics", address, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await asked.wait()
        process.send_signal(signal.SIGINT)
        out, error = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in error


async def test_kafka_that_is_away_is_an_answer() -> None:
    broker = f"127.0.0.1:{free_port()}"
    source = GroupSource(Settings(kafka_broker=broker))
    answer = await source.ask(times=True)
    await source.close()
    assert answer.problem.startswith(f"Kafka at {broker}: ")
    done = await iot_stream({"kafka_broker": broker, "metrics_port": 0}, "top", "--once", "--interval", "0.2")
    assert done.code == 0
    assert broker in done.out
    assert done.error == ""
