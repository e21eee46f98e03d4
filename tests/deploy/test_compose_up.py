"""With a Docker engine: one command brings the whole stack up, and a message goes all the way through it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.local.servers.common import free_port
from tests.deploy import compose
from tests.waiting import until
from tools.documents import ROOT

PORTS = [name for name in compose.variables() if name.endswith("_PORT")]
MQTT = ("users/alice/devices/truck-1/telemetry", "alice", "truck-1")


def engine() -> bool:
    """Whether an engine answers, and Compose is there to ask it."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    commands = ([docker, "info"], [docker, "compose", "version"])
    done = [subprocess.run(command, capture_output=True, check=False, timeout=60) for command in commands]
    return all(one.returncode == 0 for one in done)


pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not engine(), reason="no Docker engine answers: the stack of docker-compose.yml is NOT tried"),
]


class Stack:
    """docker compose for a project of this test alone."""

    def __init__(self, secrets: Path) -> None:
        ports = {name: str(free_port()) for name in PORTS}
        self._environment = {**os.environ, **ports, "SECRETS": str(secrets)}

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Standard output of a command; fails with all it said."""
        command = ["docker", "compose", "--project-name", "iot-stream-test", "--file", str(compose.FILE), *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, env=self._environment, timeout=1500
        )
        assert not check or done.returncode == 0, f"{arguments}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def sql(self, text: str) -> str:
        """What psql answers."""
        return self.run("exec", "-T", "timescaledb", "psql", "-U", "postgres", "-d", "iot", "-At", stdin=text).strip()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    subprocess.run([str(ROOT / "scripts" / "secrets"), str(tmp_path / "secrets")], check=True, capture_output=True)
    made = Stack(tmp_path / "secrets")
    try:
        yield made
    finally:
        made.run("down", "--volumes", "--timeout", "20", check=False)


async def test_one_command(stack: Stack) -> None:
    stack.run("up", "--build", "--detach", "--wait")
    topic, user, device = MQTT
    stack.sql(
        "INSERT INTO mqtt_users (username, user_id, password_hash)"
        f" VALUES ('{user}', '{user}', crypt('a long password', gen_salt('bf', 4)));"
    )
    payload = {"sequence_id": 1, "timestamp": datetime.now(UTC).isoformat(), "temperature": 91.5}
    publish = (
        "import sys, paho.mqtt.client as m;"
        f"c = m.Client(m.CallbackAPIVersion.VERSION2, '{device}', protocol=m.MQTTv5);"
        f"c.username_pw_set('{user}', 'a long password'); c.connect('emqx'); c.loop_start();"
        f"c.publish('{topic}', sys.stdin.read(), 1).wait_for_publish(30)"
    )
    stack.run("exec", "-T", "worker", "python", "-c", publish, stdin=json.dumps(payload))
    count = f"SELECT count(*) FROM raw_telemetry WHERE user_id = '{user}' AND device_id = '{device}';"
    await until(lambda: stack.sql(count) == "1", 120)
