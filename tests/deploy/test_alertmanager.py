"""Who is notified of an alert, asked of Alertmanager's own programs; and which alerts a worse alert inhibits."""

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.local.servers.common import free_port
from tests.deploy import dashboards, programs
from tests.deploy.test_k8s import find
from tools.documents import ROOT

FILE = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text())
NAMES = {rule["alert"]: rule["labels"]["severity"] for rule in dashboards.alerts()}
MATCHER = re.compile(r'(\w+) (=~|=) "([^"]*)"')


def test_alertmanager_takes_it() -> None:
    done = programs.run("amtool", "check-config", FILE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_receivers_it_shows_are_right(tmp_path: Path) -> None:
    """As somebody takes them who removes the signs of the comment."""
    text = FILE.read_text()
    shown = re.sub(r"^  # (- name|  \w+_configs)", r"  \1", text, flags=re.M)
    made = yaml.safe_load(shown)
    assert [receiver["name"] for receiver in made["receivers"]] == ["nobody", "phone", "team", "mail"]
    for name in ("phone", "team", "mail"):
        (tmp_path / "alertmanager.yml").write_text(shown.replace("receiver: nobody", f"receiver: {name}"))
        done = programs.run("amtool", "check-config", tmp_path / "alertmanager.yml")
        assert done.returncode == 0, done.stdout + done.stderr


def test_whoever_must_get_up_is_notified_soon() -> None:
    for severity, wait in (("critical", "10s"), ("warning", "30s")):
        route = CONFIG["route"]
        (own,) = route["routes"]
        chosen = own if own["matchers"] == [f'severity = "{severity}"'] else route
        assert chosen["group_wait"] == wait


def test_what_is_kept_back_are_alerts_that_exist() -> None:
    named: set[str] = set()
    for rule in CONFIG["inhibit_rules"]:
        for label, _, value in MATCHER.findall(" ".join(rule["source_matchers"] + rule["target_matchers"])):
            named |= set(value.split("|")) if label == "alertname" else set()
        sources = " ".join(rule["source_matchers"])
        assert {NAMES[name] for name in re.findall(r"[A-Z]\w+", sources)} <= {"critical", "warning"}
    assert named - set(NAMES) == set()


def test_the_operators_copy_is_the_same() -> None:
    spec = find("AlertmanagerConfig", "iot-stream")["spec"]
    route = CONFIG["route"]
    assert spec["route"]["groupBy"] == route["group_by"]
    assert [spec["route"][key] for key in ("groupWait", "groupInterval", "repeatInterval")] == [
        route[key] for key in ("group_wait", "group_interval", "repeat_interval")
    ]
    assert spec["receivers"] == [{"name": "nobody"}]

    def text(matchers: list[dict[str, str]]) -> list[str]:
        return [f'{one["name"]} {one.get("matchType", "=")} "{one["value"]}"' for one in matchers]

    assert [
        {"source_matchers": text(rule["sourceMatch"]), "target_matchers": text(rule["targetMatch"]),
         **({"equal": rule["equal"]} if "equal" in rule else {})}
        for rule in spec["inhibitRules"]
    ] == CONFIG["inhibit_rules"]  # fmt: skip


@contextmanager
def alertmanager(directory: Path) -> Iterator[str]:
    """The address of an Alertmanager while it runs, with the file as it is."""
    if not programs.has("alertmanager"):
        pytest.skip("Alertmanager cannot be had, so what it keeps back is NOT checked: `make tools` (wants Go)")
    port = free_port()
    command = [
        str(programs.path("alertmanager")), f"--config.file={FILE}", f"--storage.path={directory}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=warn",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/api/v2/alerts"
    finally:
        process.terminate()
        process.wait(30)


def send(address: str, *alerts: dict[str, str]) -> None:
    """As Prometheus does."""
    now = datetime.now(UTC).isoformat()
    body = json.dumps([{"labels": labels, "startsAt": now} for labels in alerts]).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()


def kept_back(address: str) -> set[str]:
    """Names of alerts that nobody is notified of, because of another alert."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        return {one["labels"]["alertname"] for one in json.load(answer) if one["status"]["inhibitedBy"]}


def firing(name: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": NAMES[name], **labels}


CASES = [
    ("the database is away", [firing("DatabaseBreakerOpen", instance="w1")],
     [firing("ConsumerLagGrows"), firing("StoredLate"), firing("RecordsWait", partition="3")],
     [firing("DeadLetters", reason="bad_json"), firing("BridgeSessionLost", instance="b1"), firing("AlertStorm")]),
    ("no worker", [firing("NoWorker")], [firing("WorkerDown", job="worker", instance="w1")],
     [firing("TargetDown", job="redpanda", instance="k1"), firing("NoNotifier")]),
    ("no notifier", [firing("NoNotifier")],
     [firing("NotifierFails", step="publish"), firing("TargetDown", job="notifier", instance="n1")],
     [firing("WorkerDown", job="worker", instance="w1"), firing("StoredLate")]),
    ("no gateway of one way in", [firing("GatewayDown", job="http")],
     [firing("TargetDown", job="http", instance="h1")], [firing("TargetDown", job="quic", instance="q1")]),
    ("Kafka is away from a gateway", [firing("GatewayCannotWrite", instance="h1")],
     [firing("GatewayFull", instance="h1"), firing("GatewayAnswersLate", gateway="http")],
     [firing("GatewayRefusesLogins", gateway="http", reason="unavailable")]),
    ("no sink of one kind", [firing("SinkDown", job="sink-redis")],
     [firing("TargetDown", job="sink-redis", instance="r1")], [firing("TargetDown", job="sink-influx", instance="i1")]),
    ("a destination is away", [firing("SinkDestinationAway", sink="influx")],
     [firing("SinkFallsBehind", sink="influx")], [firing("SinkSeriesDropped", sink="influx", limit="sink")]),
    ("a certificate", [firing("CertificateExpires", instance="b1", connection="mqtt", file="ca")],
     [firing("CertificateExpiresSoon", instance="b1", connection="mqtt", file="ca")], []),
    ("another certificate", [firing("CertificateExpires", instance="b1", connection="mqtt", file="ca")], [],
     [firing("CertificateExpiresSoon", instance="w1", connection="kafka", file="ca")]),
]  # fmt: skip


@pytest.mark.parametrize(("worse", "kept", "told"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_follows_from_something_worse_is_kept_back(
    worse: list[dict[str, str]], kept: list[dict[str, str]], told: list[dict[str, str]], tmp_path: Path
) -> None:
    with alertmanager(tmp_path) as address:
        send(address, *kept, *told)
        assert kept_back(address) == set()
        send(address, *worse)
        wanted, deadline = {one["alertname"] for one in kept}, time.monotonic() + 10
        while kept_back(address) != wanted:
            assert time.monotonic() < deadline, (kept_back(address), wanted)
            time.sleep(0.1)
