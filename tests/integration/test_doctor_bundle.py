"""`iot-stream doctor --bundle`: the archive of a fleet that runs, with secrets planted wherever one can be set."""

import itertools
import json
import re
import tarfile
from pathlib import Path

import pytest

from app.doctor.bundle import FOLDER
from app.settings import Settings
from tests.faults.test_dead_letter_topic import send
from tests.integration.test_doctor import metrics_url
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site
from tools.command import iot_stream
from tools.faults.load import RULES, messages

pytestmark = pytest.mark.integration

URLS = {"webhook_url": "https://hooks.example.com/T/{}", "redis_url": "redis://:{}@127.0.0.1:1/0"}
NOT_HERE = ("database_url", "metrics_url", "mqtt_password", "kafka_password")  # real ones, or only with SASL


@pytest.fixture
def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Nothing made yet but the database."""
    return Site(kafka.bootstrap, database, mosquitto, unique, tmp_path)


def planted() -> dict[str, str]:
    """A secret for each setting that is one."""
    names = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    values = {}
    for number, name in enumerate(name for name in names if name not in NOT_HERE):
        secret = f"Pl4nted{number:02}secretOfTheTest"
        default = "https://u:{}@host.example.com/" if name.endswith("_url") else "{}"
        values[name] = URLS.get(name, default).format(secret)
    return values


def read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        files = {one.name.removeprefix(f"{FOLDER}/"): archive.extractfile(one) for one in archive.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file}


async def test_the_archive_of_a_fleet(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await site.prepare(RULES)
    secrets = planted()
    assert len(secrets) >= 8
    for name in ("AWS_SECRET_ACCESS_KEY", "OTEL_EXPORTER_OTLP_HEADERS", "PGPASSWORD", "MY_API_TOKEN"):
        monkeypatch.setenv(name, f"Pl4nted-{name.lower()}")
    local = tmp_path / "local"
    (local / "log").mkdir(parents=True)
    (local / "mosquitto" / "secrets").mkdir(parents=True)
    (local / "mosquitto" / "secrets" / "operator").write_text("Pl4nted-operator\n")
    said = "\n".join([*secrets.values(), "Pl4nted-operator", "the last line"])
    (local / "log" / "worker.log").write_text("old\n" * 2000 + said + "\n")
    (tmp_path / ".env").write_text("IOT_FEED_TOKEN=Pl4nted-dotenv\n")
    bundle = tmp_path / "support.tar.gz"
    with site.program("worker") as worker:
        await send(site, list(itertools.islice(messages(site.unique, seed=8), 300)))
        await worker.ready()
        await site.settled_input()
        done = await iot_stream(
            {**site.values, **secrets, "local_dir": local}, "doctor", "--bundle", bundle, "--metrics",
            metrics_url(worker), cwd=tmp_path,
        )  # fmt: skip
    assert "Traceback" not in done.error
    assert bundle.stat().st_mode & 0o777 == 0o600
    entries = read(bundle)
    password = site.database.partition("://")[2].rpartition("@")[0].partition(":")[2]
    real = [one for one in (password, site.values.get("mqtt_password")) if one]
    for name, text in entries.items():
        assert "Pl4nted" not in text, (name, re.findall(r".{20}Pl4nted.{20}", text))
        assert not [one for one in real if str(one) in text], name
    folder = metrics_url(worker).partition("://")[2].replace(":", "-")
    assert "iot_ledger_total" in entries[f"programs/{folder}/metrics.txt"]
    assert json.loads(entries[f"programs/{folder}/health.txt"])
    assert json.loads(entries[f"programs/{folder}/ready.txt"])["checks"]
    assert entries["logs/worker.log"].endswith("the last line\n")
    assert len(entries["logs/worker.log"].splitlines()) == 500
    offsets = json.loads(entries["offsets.json"])
    places = offsets["groups"][site.settings.group_id][site.settings.kafka_topic]
    committed = {number: at for number, at in places.items() if at}
    ends = {number: end for number, (_, end) in offsets["topics"][site.settings.kafka_topic].items() if end}
    assert committed == ends
    assert sum(ends.values()) == 300
    assert {"iot-stream", "packages", "python"} <= set(json.loads(entries["versions.json"]))
    assert len(json.loads(entries["settings.json"])) == len(Settings.model_fields)
    assert {one["area"] for one in json.loads(entries["findings.json"])} >= {"kafka", "database", "mqtt", "worker"}


async def test_a_fleet_that_is_away_and_a_file_that_is_there(site: Site, tmp_path: Path) -> None:
    nowhere = {"kafka_broker": "127.0.0.1:1", "mqtt_port": 1, "database_url": "postgresql://iot:x1y2z3@127.0.0.1:1/iot"}
    values = {**site.values, **nowhere, "local_dir": tmp_path / "local"}
    bundle = tmp_path / "support.tar.gz"
    done = await iot_stream(values, "doctor", "--bundle", bundle)
    assert done.code == 2
    assert "Traceback" not in done.error
    entries = read(bundle)
    assert "error" in json.loads(entries["offsets.json"])
    assert not [name for name, text in entries.items() if "x1y2z3" in text]
    again = await iot_stream(values, "doctor", "--bundle", bundle)
    assert (again.code, "is there already" in again.error) == (2, True)
    elsewhere = await iot_stream(values, "doctor", "--bundle", tmp_path / "none" / "a.tar.gz")
    assert (elsewhere.code, "there is no directory" in elsewhere.error) == (2, True)
