"""docs/replay.md: its worked example on a real stack as it stands there, and a second fleet beside the first."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.integration.history_rig import reading, send
from tests.integration.test_stack_up import Stack, wait
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site
from tools.command import ROOT, iot_stream

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

PAGE = (ROOT / "docs" / "replay.md").read_text()
EXAMPLE = PAGE.partition("## A worked example")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```bash\n(.*?)^```", EXAMPLE, re.M | re.S)
SAID = re.findall(r"^ {4}(\S.*)$", EXAMPLE, re.M)


@pytest.fixture
def stack(server_dir: Path) -> Iterator[Stack]:
    made = Stack(server_dir / ".local")
    yield made
    made.run("down")
    for log in sorted((made.directory / "log").glob("*.log")):
        print(f"\n--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-12:]))  # seen on failure


def shell(stack: Stack, block: str) -> "subprocess.CompletedProcess[str]":
    """A block of the page, beside the stack's directory, where `iot-stream` is this one."""
    function = f'iot-stream() {{ "{sys.executable}" -m app "$@"; }}\nset -ea; . .local/stack.env; set +a\n'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(
        ["bash", "-c", function + block], cwd=stack.directory.parent, env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip


def words(line: str) -> str:
    """A line without its alignment."""
    return " ".join(line.split())


async def execute(stack: Stack, sql: str) -> None:
    connection = await asyncpg.connect(stack.env["DATABASE_URL"])
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def test_the_worked_example(stack: Stack) -> None:
    looked, acted, replayed = BLOCKS
    stack.up()
    for sequence in range(3):
        stack.publish("alice", sequence)
    assert wait(lambda: stack.rows("alice") == 3)
    asyncio.run(execute(stack, "DELETE FROM raw_telemetry"))

    def committed() -> bool:  # a row is there before its offset is committed
        done = shell(stack, looked)
        assert done.returncode == 0, done.stderr
        lines = [words(line) for line in done.stdout.splitlines()]
        return all(words(line) in lines for line in SAID[:3])

    assert wait(committed), shell(stack, looked).stdout
    refused = shell(stack, looked.rstrip() + " --yes")
    assert (refused.returncode, "has 1 member" in refused.stderr) == (1, True), refused.stderr
    assert stack.rows("alice") == 0

    before = stack.pids
    done = shell(stack, acted)
    assert (done.returncode, SAID[3] in done.stdout) == (0, True), (done.stdout, done.stderr)
    assert stack.status()[0] == 0, "the stack is well again"
    after = stack.pids
    assert {name for name, pid in after.items() if pid != before[name]} == {"worker"}
    assert not psutil.pid_exists(before["worker"])
    assert wait(lambda: stack.rows("alice") == 3)

    done = shell(stack, replayed)
    assert (done.returncode, SAID[4] in done.stdout) == (0, True), (done.stdout, done.stderr)
    (swap,) = re.findall(r"^```sql\n(.*?)^```", PAGE, re.M | re.S)
    asyncio.run(execute(stack, "UPDATE raw_telemetry SET temperature = 99 WHERE sequence_id = 1"))
    asyncio.run(execute(stack, swap))
    assert stack.rows("alice") == 3


def test_the_page_names_every_command() -> None:
    assert set(re.findall(r"^ {4}iot-stream history (\w+)", PAGE, re.M)) >= {"reset", "replay"}


async def test_a_second_fleet_works_alerts_out_anew_for_itself(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    """The variables of the page, with names of this test's own."""
    (lines,) = re.findall(r"^ {4}export (IOT_APP=.*?)\n {4}iot-stream topics", PAGE, re.M | re.S)
    named = set(re.findall(r"(IOT_[A-Z_]+)=", lines))
    assert named == {
        "IOT_APP", "IOT_KAFKA_DLQ_TOPIC", "IOT_KAFKA_ALERTS_TOPIC", "IOT_DATABASE_URL", "IOT_STATE_DIR",
        "IOT_METRICS_PORT",
    }  # fmt: skip
    first = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"kafka_partitions": 2})
    rules: list[dict[str, object]] = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}]
    await first.prepare(rules)
    with first.program("worker") as worker:
        await worker.ready()
        await send(first, [reading(number, temperature=90 if number == 5 else 20) for number in range(10)])
        await first.settled_input()
        alerts = await first.ends(first.settings.kafka_alerts_topic)

        await first.fetch(f"CREATE DATABASE {unique}again")
        try:
            second = replace(
                first, unique=f"{unique}again", database=database.replace(unique, f"{unique}again"),
                more={"kafka_partitions": 2, "kafka_topic": first.settings.kafka_topic},
            )  # fmt: skip
            assert (await iot_stream(second.values, "topics", "create")).code == 0
            assert (await iot_stream(second.values, "db", "init")).code == 0
            await replace(second, unique=unique).set_rules(rules)
            with second.program("worker", "second") as again:
                await again.ready()
                await second.settled_input()
                again.stop()
            rows = await second.fetch("SELECT sequence_id FROM raw_telemetry ORDER BY 1")
            assert [row[0] for row in rows] == list(range(10))
            assert sum((await second.ends(second.settings.kafka_alerts_topic)).values()) == 2
        finally:
            await first.fetch(f"DROP DATABASE {unique}again WITH (FORCE)")
        assert await first.ends(first.settings.kafka_alerts_topic) == alerts
        worker.stop()
