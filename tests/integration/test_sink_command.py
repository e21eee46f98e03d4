"""`iot-stream sink` as an operator runs it: mistakes are named, --check prints a sample, SIGTERM ends the program."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from app.kafka.access import access
from app.kafka.topics import create, wanted
from app.settings import Settings
from tests.servers import KafkaServer
from tests.sink_records import message
from tools.command import ROOT, iot_stream

AWAY: Mapping[str, Any] = {"kafka_broker": "127.0.0.1:1", "log_level": "WARNING"}


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        ((), {}, "name a sink, or set IOT_SINKS"),
        (("redsi",), {}, "there is no sink 'redsi': kinds and tables [sinks.NAME] are parquet, influx, redis"),
        ((), {"sinks": "parquet,nonsense"}, "there is no sink 'nonsense'"),
        (("influx", "--check"), {}, "IOT_INFLUX_URL"),
        (("influx", "--compact"), {}, "has no files: influx"),
        (("parquet",), {"sink_kinds": "telemetry,nonsense"}, "IOT_SINK_KINDS"),
    ],
)
async def test_what_is_wrong_is_named_with_exit_code_2(
    words: tuple[str, ...], settings: Mapping[str, Any], said: str, tmp_path: Path
) -> None:
    done = await iot_stream({**AWAY, **settings}, "sink", *words, cwd=tmp_path)
    assert done.code == 2
    assert said in " ".join(done.error.replace("│", " ").split())


async def test_a_check_without_kafka_shows_a_record_that_is_made_up(tmp_path: Path) -> None:
    settings = {**AWAY, "parquet_dir": tmp_path / "lake"}
    done = await iot_stream(settings, "sink", "parquet", "--check", "--json", cwd=tmp_path)
    found = done.json
    assert (found["sink"], found["kind"], found["connected"], found["error"]) == ("parquet", "parquet", True, None)
    assert found["sample"].startswith("made up (")
    assert "alice" in found["lines"][0]
    assert not list((tmp_path / "lake").rglob("*.parquet")), "nothing is written"


async def test_a_check_of_a_destination_that_is_not_there_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    settings = {**AWAY, "parquet_dir": tmp_path / "file" / "lake"}
    done = await iot_stream(settings, "sink", "parquet", "--check", cwd=tmp_path)
    assert done.code == 1
    assert "parquet (parquet): NOT CONNECTED: " in done.out


@pytest.mark.integration
async def test_a_check_shows_the_newest_records_as_the_filters_let_them_through(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    settings = await topics(kafka, unique, parquet_dir=str(tmp_path / "lake"), sink_users="alice", sink_keys="temp*")
    await send(settings, [message(n, user="alice" if n % 2 else "bob", device=f"d{n}", rpm=n) for n in range(1, 9)])
    done = await iot_stream(settings, "sink", "parquet", "--check", "--records", "40", "--json", cwd=tmp_path)
    found = done.json
    assert found["sample"] == f"the newest of {unique}-in"
    assert (len(found["lines"]), found["filtered"]) == (4, 4)
    assert all("alice" in line and "rpm" not in line for line in found["lines"])


@pytest.mark.integration
async def test_a_table_of_the_settings_runs_until_it_is_stopped(
    kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    table = f'[sinks.archive]\nkind = "parquet"\ndir = "{tmp_path}/lake"\nrotate_seconds = 0.5\nmetrics_port = 0\n'
    (tmp_path / "iot-stream.toml").write_text(table)
    settings = await topics(kafka, unique)
    await send(settings, [message(n, device=f"d{n % 3}") for n in range(300)])
    environment = {f"IOT_{name.upper()}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "sink", cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        port = await metrics_port(process)
        await written(port, 300)
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health") as answer:
            health = await answer.json()
        assert health["program"] == "sink"
        assert health["checks"] == {"kafka": True, "sink:archive": True}
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert time.monotonic() - began < 10
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert list((tmp_path / "lake").rglob("*.parquet"))


async def topics(kafka: KafkaServer, unique: str, **more: Any) -> dict[str, Any]:
    """Settings of a fleet whose topics exist."""
    settings = {
        "app": unique, "kafka_broker": kafka.bootstrap, "kafka_topic": f"{unique}-in", "kafka_partitions": 2,
        "kafka_dlq_topic": f"{unique}-dlq", "kafka_alerts_topic": f"{unique}-alerts", "log_format": "json", **more,
    }  # fmt: skip
    made = Settings(_env_file=None, **settings)
    await create(access(made), wanted(made), 1)
    return settings


async def send(settings: Mapping[str, Any], records: list[Any]) -> None:
    """Send records to the input topic."""
    async with AIOKafkaProducer(bootstrap_servers=settings["kafka_broker"]) as producer:
        for one in records:
            await producer.send(settings["kafka_topic"], one.value, one.key, headers=list(one.headers))


async def metrics_port(process: asyncio.subprocess.Process) -> int:
    """What the log says when it has started; the rest of the log is read on, so that it does not fill the pipe."""
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while line := await process.stderr.readline():
            if b"sinks_started" in line:
                port: int = json.loads(line)["metrics_port"]
                drain = asyncio.create_task(process.stderr.read())
                drain.add_done_callback(lambda task: task.exception())
                return port
    raise AssertionError("it ended by itself")


async def written(port: int, records: int) -> None:
    """Wait until the metrics show this number of written records."""
    wanted_line = f'iot_sink_records_total{{outcome="written",sink="archive"}} {float(records)}'
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                if wanted_line in await answer.text():
                    return
            await asyncio.sleep(0.2)
