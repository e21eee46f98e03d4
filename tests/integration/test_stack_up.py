"""`iot-stream up` and `down` as a person uses them: one stack, brought up, hurt, joined, stopped and started again."""

import asyncio
import contextlib
import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import paho.mqtt.publish
import psutil
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from app.local.layout import parse_env

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
KEYS = ["KAFKA_BROKER", "DATABASE_URL", "MQTT_HOST", "MQTT_PORT", "MQTT_USERNAME", "MQTT_PASSWORD", "METRICS_URL"]
NAMES = {"bridge", "worker", "notifier", "kafka", "postgres", "mosquitto"}


class Stack:
    """The command line, with one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.said = directory, ""

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "app", *arguments, "--dir", str(self.directory)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)

    def up(self, *arguments: str) -> float:
        started = time.monotonic()
        done = self.run("up", "--detach", "--no-fleet", *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("ready "), done.stdout
        self.said = done.stderr
        return time.monotonic() - started

    @property
    def env(self) -> dict[str, str]:
        return parse_env((self.directory / "stack.env").read_text())

    @property
    def pids(self) -> dict[str, int]:
        content: dict[str, int] = json.loads((self.directory / "pids.json").read_text())
        return content

    def status(self) -> tuple[int, dict[str, Any]]:
        done = self.run("status", "--json")
        return done.returncode, json.loads(done.stdout)

    def rows(self, user: str) -> int:
        async def count() -> int:
            connection = await asyncpg.connect(self.env["DATABASE_URL"])
            try:
                return int(await connection.fetchval("SELECT count(*) FROM raw_telemetry WHERE user_id = $1", user))
            finally:
                await connection.close()

        return asyncio.run(count())

    def publish(self, user: str, sequence: int) -> None:
        env = self.env
        paho.mqtt.publish.single(
            f"users/{user}/devices/d1/telemetry",
            json.dumps({"sequence_id": sequence, "timestamp": datetime.now(UTC).isoformat(), "temperature": 20.5}),
            qos=1,
            hostname=env["MQTT_HOST"],
            port=int(env["MQTT_PORT"]),
            auth={"username": env["MQTT_USERNAME"], "password": env["MQTT_PASSWORD"]},
            protocol=MQTTProtocolVersion.MQTTv5,
        )


def wait(reached: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := reached()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return done


@pytest.fixture
def stack(server_dir: Path) -> Iterator[Stack]:
    stack = Stack(server_dir / "stack")
    yield stack
    stack.run("down")
    for log in sorted((stack.directory / "log").glob("*.log")):
        print(f"\n--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-12:]))  # seen on failure


def test_up_hurt_down_and_up_again(stack: Stack, unique: str) -> None:
    print(f"\nfirst start {stack.up():.1f} s")
    steps = re.findall(r"^(\d) of 7: ([\w ]+) is ready after [\d.]+ s$", stack.said, re.MULTILINE)
    assert [number for number, _ in steps] == list("1234567")
    assert {name for _, name in steps} == NAMES | {"topics and schema"}
    assert [name for name in stack.env if not name.startswith("IOT_")] == KEYS
    assert stack.pids.keys() == NAMES
    for file in ("stack.env", "pids.json"):
        assert (stack.directory / file).stat().st_mode & 0o777 == 0o600
    code, status = stack.status()
    assert code == 0, status
    _nothing_can_be_reached_from_elsewhere(stack)
    stack.publish(unique, 1)
    assert wait(lambda: stack.rows(unique) == 1), "a message published by the operator is stored"

    _dies_and_is_started_again(stack, "notifier")
    _dies_and_is_started_again(stack, "worker")
    _supervisor_dies_and_the_next_takes_over(stack)
    stack.publish(unique, 2)
    assert wait(lambda: stack.rows(unique) == 2)

    pids = stack.pids
    assert stack.run("down").returncode == 0
    assert not [name for name, pid in pids.items() if psutil.pid_exists(pid)]
    assert not (stack.directory / "stack.env").exists()
    assert stack.status()[0] == 1

    seconds = stack.up()
    print(f"second start {seconds:.1f} s")
    assert stack.rows(unique) == 2


def _nothing_can_be_reached_from_elsewhere(stack: Stack) -> None:
    """Every server, and what it starts, listens on the loopback address alone; and each of ours where it says."""
    listening: dict[str, set[int]] = {}
    for name, pid in stack.pids.items():
        found = []
        for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL ends some of its own by itself
                found += [one.laddr for one in each.net_connections("inet") if one.status == psutil.CONN_LISTEN]
        hosts = {ipaddress.ip_address(address.ip.removeprefix("::ffff:")) for address in found}  # as Java has them
        assert [host for host in hosts if not host.is_loopback] == [], name
        listening[name] = {address.port for address in found}
    assert int(stack.env["MQTT_PORT"]) in listening["mosquitto"]
    assert int(stack.env["KAFKA_BROKER"].rpartition(":")[2]) in listening["kafka"]
    assert int(stack.env["METRICS_URL"].rpartition(":")[2]) in listening["worker"]


def _dies_and_is_started_again(stack: Stack, name: str) -> None:
    before = stack.pids[name]
    os.kill(before, signal.SIGKILL)
    assert wait(lambda: stack.pids.get(name, before) != before), f"{name} was not started again"
    assert wait(lambda: stack.status()[0] == 0), stack.status()
    assert stack.status()[1]["processes"][name]["restarts"] == 1


def _supervisor_dies_and_the_next_takes_over(stack: Stack) -> None:
    before, supervisor = stack.pids, stack.status()[1]["supervisor"]
    os.kill(supervisor, signal.SIGKILL)
    assert wait(lambda: not psutil.pid_exists(supervisor))
    os.kill(before["bridge"], signal.SIGKILL)
    assert wait(lambda: not psutil.pid_exists(before["bridge"]))
    stack.up()
    after = stack.pids
    assert {name for name in NAMES if after[name] != before[name]} == {"bridge"}, "only what was missing is started"


def test_up_is_not_ready_while_its_worker_is_down(stack: Stack) -> None:
    """A worker that ends again and again: whoever joins the stack sees that it is not ready."""
    stack.up()
    (stack.directory / "state").rename(stack.directory / "kept")
    (stack.directory / "state").write_text("a file where the worker's directory should be")
    os.kill(stack.pids["worker"], signal.SIGKILL)
    assert wait(lambda: "worker" not in stack.pids)
    done = stack.run("up", "--detach", "--no-fleet")
    assert (done.returncode, done.stdout) == (1, ""), done
    assert "worker does not run" in done.stderr
    assert "worker ended with exit code 2" in done.stderr
    assert "iot-stream: IOT_STATE_DIR" in done.stderr, "the last lines of its log"
    assert "Traceback" not in done.stderr
    code, status = stack.status()
    assert (code, status["healthy"], status["processes"]["worker"]["healthy"]) == (1, False, False)


def test_up_is_not_ready_when_its_worker_does_not_start(stack: Stack) -> None:
    stack.directory.mkdir(parents=True)
    (stack.directory / "state").write_text("a file where the worker's directory should be")
    done = stack.run("up", "--detach", "--no-fleet")
    assert (done.returncode, done.stdout) == (1, ""), done
    assert "iot-stream: IOT_STATE_DIR" in done.stderr
    assert not (stack.directory / "stack.env").exists()
