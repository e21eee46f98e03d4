"""docs/cli.md: each example, run as it stands there against a stack of this machine, ends as the page says.

What is changed in an example: addresses and paths of another machine become those of the stack.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.publish
import psutil
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from app.local.ingest.certificates import LocalCertificates
from app.local.layout import parse_env
from app.local.servers.common import free_port
from tests.workers import until
from tools.command_page import leaves
from tools.documents import DOCS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

# In this order: what one makes, a later one reads. Those that run until they are stopped have the words that they
# print once they work; the exit codes that each may have, if not 0 alone.
ORDER: Mapping[str, tuple[str, set[int]]] = {
    "up": ("", {0}), "status": ("", {0}),
    "topics create": ("", {0}), "topics list": ("", {0}), "db init": ("", {0}), "db migrate": ("", {0}),
    "db status": ("", {0}), "schema sql": ("", {0}), "schema check": ("", {0}),
    "config show": ("", {0}), "config schema": ("", {0}),
    "users add": ("", {0}), "users list": ("", {0}), "users passwd": ("", {0}), "users token add": ("", {0}),
    "users token list": ("", {0}), "users token revoke": ("", {0}), "users remove": ("", {0}),
    "rules check": ("", {0}), "rules test": ("", {0}), "rules set": ("", {0}), "rules list": ("", {0}),
    "bridge": ("bridge_started", {0}), "notifier": ("notifier_started", {0}), "worker": ("worker_starting", {0}),
    "http": ("accepted", {0}), "tcp": ("acked", {0}), "grpc": ("serving", {0}), "quic": ("quic_started", {0}),
    "ingest": ("gateways_started", {0}), "push": ("", {0}), "sink": ("sinks_started", {0}),
    "fleet": ("", {0}), "load": ("", {0}),
    "history replay": ("", {0}), "history export": ("", {0}), "history reset": ("", {0}), "history verify": ("", {0}),
    "alerts list": ("", {0}), "alerts history": ("", {0}), "alerts snooze": ("", {0}), "alerts disable": ("", {0}),
    "alerts enable": ("", {0}), "alerts ack": ("", {0, 1}), "rules backtest": ("", {0}),
    "channels add": ("", {0}), "channels ls": ("", {0}), "channels test": ("", {1}), "channels rm": ("", {0}),
    "trace": ("", {0}), "tap": ("bad_time", {130}), "top": ("rows/s", {0}),
    "dlq ls": ("", {0}), "dlq show": ("", {0}), "dlq export": ("", {0}), "dlq import": ("", {0}),
    "dlq replay": ("", {0}), "dlq purge": ("", {0}),
    "doctor": ("", {0, 1}), "run": ("dead letters", {0}), "down": ("", {0}),
}  # fmt: skip
RULES = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}]
SECONDS = 120.0  # for one example
# Instead of netcat, which few machines have; it waits until the gateway listens.
ASK = """import socket, sys, time
for again in range(100):
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) as to:
            to.sendall(sys.stdin.buffer.read())
            to.shutdown(socket.SHUT_WR)
            print(to.makefile("rb").readlines(), flush=True)
        break
    except ConnectionRefusedError:
        time.sleep(0.2)
"""
# A person types more slowly than a gateway starts, and gives passwords at a prompt.
WAITING = {
    "curl ": "curl --silent --retry 30 --retry-delay 1 --retry-connrefused ",
    "iot-stream grpc --health": "until iot-stream grpc --health; do sleep 1; done",
    "publish:iot/+/+/telemetry'": "publish:iot/+/+/telemetry' --password-file trucks",
    "--device truck-1\n": "--device truck-1 --password-file trucks\n",
}


def examples() -> dict[str, str]:
    """Command -> the lines of its example, as the page has them."""
    found = {}
    for section in DOCS.joinpath("cli.md").read_text().split("\n## ")[1:]:
        block = re.search(r"\nFor example:\n\n((?: {4}.*\n)+)", section)
        assert block, section
        found[section.partition("\n")[0]] = re.sub(r"^ {4}", "", block[1], flags=re.M)
    return found


def test_every_command_has_its_place_in_the_order() -> None:
    assert set(ORDER) == {leaf.name for leaf in leaves()} == set(examples())


class Site:
    """A directory with a stack, whose addresses stand for those of the page."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.ports = directory, {name: free_port() for name in ("http", "tcp", "quic", "worker")}
        self.certificates = LocalCertificates(directory / "certificates")
        (directory / "rules.json").write_text(json.dumps(RULES))
        lines = [
            "device_id,timestamp,temperature",
            "truck-1,2026-11-21T09:00:00Z,20",
            "truck-1,2026-11-21T09:01:00Z,91",
        ]
        (directory / "readings.csv").write_text("\n".join(lines) + "\n")
        (directory / "expected.json").write_text('[{"rule_id": "temperature", "status": "FIRING", "value": 91}]')
        (directory / "trucks").write_text(secrets.token_hex(12))

    @property
    def env(self) -> dict[str, str]:
        file = self.directory / ".local" / "stack.env"
        return parse_env(file.read_text()) if file.exists() else {}

    @property
    def environment(self) -> dict[str, str]:
        """Of an example: the stack's settings, and ports that its own programs do not have."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("IOT_") or "TEST" in name}
        own = {name: value for name, value in self.env.items() if name.startswith("IOT_")}
        return plain | own | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "IOT_LOG_FORMAT": "json",
            "IOT_METRICS_PORT": "0", "IOT_HTTP_PORT": str(self.ports["http"]), "IOT_TCP_PORT": str(self.ports["tcp"]),
            "IOT_QUIC_PORT": str(self.ports["quic"]), "IOT_GRPC_SOCKET": str(self.directory / "g.sock"),
            "IOT_BRIDGE_CLIENT_ID": "cli-page-bridge", "IOT_NOTIFIER_CLIENT_ID": "cli-page-notifier",
            "IOT_BRIDGE_SHARE": "-", "IOT_MQTT_GUARDED_IDS": "true", "IOT_STATE_DIR": str(self.directory / "state"),
        }  # fmt: skip

    def here(self, text: str) -> str:
        """An example with the addresses and files of this site."""
        env, made = self.env, self.certificates
        ports = [env.get(name, "").removeprefix("http://") for name in ("METRICS_URL", "HTTP_METRICS_URL")]
        changes = {
            "kafka:9092": env.get("KAFKA_BROKER", ""), "postgresql://iot@db/iot": env.get("DATABASE_URL", ""),
            "IOT_MQTT_HOST=mqtt": f"IOT_MQTT_HOST={env.get('MQTT_HOST')}", "worker-1:9000": ports[0],
            "worker-2:9000": ports[0], "bridge:9001": ports[1], "/var/lib/iot/2": str(self.directory / "state2"),
            "IOT_METRICS_PORT=9101": f"IOT_METRICS_PORT={self.ports['worker']}", "/run/secrets": str(self.directory),
            "127.0.0.1:8088": f"127.0.0.1:{self.ports['http']}", "export IOT_INFLUX_URL=http://127.0.0.1:8086\n": "",
            "nc -N 127.0.0.1 8089": f"{sys.executable} ask.py {self.ports['tcp']}",
            "--host emqx --users 500 --rate 20000": f"--host {env.get('MQTT_HOST')} --port {env.get('MQTT_PORT')}"
            # Mosquitto does not ask the database for the accounts of the users, as EMQX does.
            f" --username {env.get('MQTT_USERNAME')} --password-file operator --users 5 --rate 50 --duration 2",
            "--rate 200": "--rate 200 --duration 2",
            "deploy/secrets/gateway_certificate": str(made.server), "deploy/secrets/gateway_key": str(made.server_key),
            "deploy/secrets/gateway_ca.pem": str(made.ca), "/tmp/telemetry_ingest.sock": str(self.directory / "g.sock"),
        }  # fmt: skip
        for old, new in {**changes, **WAITING}.items():
            text = text.replace(old, new)
        # Certificates are made above; grpcurl, quic senders and agents are tried by other tests.
        left_out = ("scripts/certificates", "agent |", "grpcurl")
        lines = text.replace("\\\n", " ").splitlines()
        return "\n".join(line for line in lines if not line.startswith(left_out))

    def run(self, name: str, text: str) -> None:
        """Run an example; one that is to be stopped, until it prints its words."""
        words, codes = ORDER[name]
        stopped = bool(words) or name == "fleet"
        out = self.directory / "out.txt"
        with out.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"set -eu\n{self.here(text)}"], cwd=self.directory, env=self.environment, stdout=file,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            if stopped:
                end = time.monotonic() + SECONDS
                while words not in out.read_text() or (name == "fleet" and not _connected(process.pid)):
                    assert time.monotonic() < end, f"{name}: {out.read_text()}"
                    assert process.poll() is None or words in out.read_text(), f"{name}: {out.read_text()}"
                    time.sleep(0.1)
                os.killpg(process.pid, signal.SIGINT)
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{name} does not end: {out.read_text()}")
        finally:
            _end_group(process.pid)
            process.wait(SECONDS)
        said = out.read_text()
        assert "Traceback" not in said, f"{name}: {said}"
        assert code in codes or (stopped and code in (130, -signal.SIGINT)), f"{name} ends with {code}: {said}"

    def publish(self, topic: str, payload: str) -> None:
        env = self.env
        paho.mqtt.publish.single(
            topic, payload, qos=1, hostname=env["MQTT_HOST"], port=int(env["MQTT_PORT"]),
            auth={"username": env["MQTT_USERNAME"], "password": env["MQTT_PASSWORD"]},
            protocol=MQTTProtocolVersion.MQTTv5,
        )  # fmt: skip

    def ask(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "app", *words], cwd=self.directory, env=self.environment, capture_output=True,
            text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
        return done.stdout


def _connected(leader: int) -> bool:
    """Whether an example talks to a server, as which a simulated device says nothing before its end."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(leader)
        each = [one.net_connections("inet") for one in (first, *first.children(recursive=True))]
        return any(one.status == psutil.CONN_ESTABLISHED for found in each for one in found)
    return False


def _end_group(leader: int) -> None:
    """End what an example has left in the background: by SIGTERM, and what does not go within 20 s by SIGKILL."""
    with suppress(ProcessLookupError):
        for number in (signal.SIGTERM, *[0] * 100):
            os.killpg(leader, number)
            time.sleep(0.2)
        os.killpg(leader, signal.SIGKILL)


@pytest.fixture
def site(server_dir: Path) -> Iterator[Site]:
    made = Site(server_dir)
    made.certificates.make("operator")
    (server_dir / "ask.py").write_text(ASK)
    yield made
    subprocess.run([sys.executable, "-m", "app", "down"], cwd=server_dir, check=False, timeout=SECONDS)


async def test_every_example_of_the_page(site: Site) -> None:
    page = examples()
    for name in ORDER:
        if name == "bridge":
            await _readings(site)
        text = page[name]
        if name == "users token add":
            site.ask("users", "add", "alice", "--password-file", "trucks")
        if name == "users token revoke":
            (token, *_) = json.loads(site.ask("users", "token", "list", "alice", "--json"))
            text = text.replace("17", str(token["id"]))
        if name == "dlq show":
            (letter, *_) = site.ask("dlq", "show", "--limit", "1", "--json").splitlines()
            place = json.loads(letter)
            text = text.replace("3:17", f"{place['partition']}:{place['offset']}")
        if name == "load":
            (site.directory / "operator").write_text(site.env["MQTT_PASSWORD"])
        if name == "sink":
            site.run("up", "iot-stream up --no-fleet --detach --sinks influx")
        if name == "push":
            (site.directory / "token").write_text(site.ask("users", "token", "add", "alice"))
            lines = [
                {"user_id": "alice", "device_id": "p1", "sequence_id": n, "timestamp": time.time()} for n in range(3)
            ]
            (site.directory / "readings.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
            text = text.replace("--resume", f"--grpc unix://{site.env['GRPC_SOCKET']} --resume")
        for one in text.splitlines() if name in ("fleet", "load", "users add") else [text]:
            site.run(name, one.replace(" --via quic", " --via http") + "\n")


async def _readings(site: Site) -> None:
    """What the later examples look for: alice's truck with a reading that alerts, and dead letters."""
    now = datetime.now(UTC)
    topic = "users/alice/devices/truck-1/telemetry"
    for sequence, when in ((123, now.isoformat()), (124, "yesterday")):
        site.publish(topic, json.dumps({"sequence_id": sequence, "timestamp": when, "temperature": 91}))
    site.publish(topic, json.dumps({"sequence_id": 125, "timestamp": now.isoformat(), "battery": "full"}))
    site.publish(topic, "{")

    async def there() -> bool:
        tally = json.loads(site.ask("dlq", "ls", "--json") or "{}")
        return bool({"bad_time", "wrong_type", "bad_json"} <= {*tally.get("reasons", {})})

    await until(there, 30.0, lambda: site.ask("dlq", "ls"))
