"""`iot-stream config show`: each setting with its value and source, and no secret in any form."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import build
from app.settings import Settings
from app.settings.resolved.resolved import MASK, resolved

SECRET = "hunter2-not-for-logs"  # not a secret


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("IOT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> str:
    done = CliRunner().invoke(build("config"), ["config", "show", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_word_that_no_setting_has_is_refused() -> None:
    done = CliRunner().invoke(build("config"), ["config", "show", "kafak", "mqqt"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no setting has kafak or mqqt in its name" in done.stderr


def test_without_anything_set_all_is_default() -> None:
    found = resolved()
    assert [one.name for one in found] == [f"IOT_{name.upper()}" for name in Settings.model_fields]
    assert {one.source for one in found} == {"default"}
    json.dumps([one.value for one in found])
    assert all(one.meaning for one in found)


def test_the_source_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("iot-stream.toml").write_text("batch_max_rows = 1\nrules_poll = 1.5\ncopy_min_rows = 3\n")
    Path(".env").write_text("IOT_BATCH_MAX_ROWS=10\nIOT_RULES_POLL=2.5\nIOT_MQTT_HOST=\nOTHER=x\n")
    monkeypatch.setenv("IOT_BATCH_MAX_ROWS", "100")
    monkeypatch.setenv("iot_log_level", "DEBUG")
    monkeypatch.setenv("IOT_KAFKA_TOPIC", "")
    monkeypatch.setenv("IOT_MQTT_PORT", "tcp://10.0.0.2:1883")  # of Kubernetes
    given = {one.name: (one.value, one.source) for one in resolved() if one.source != "default"}
    assert given == {
        "IOT_BATCH_MAX_ROWS": (100, "environment"),
        "IOT_LOG_LEVEL": ("DEBUG", "environment"),
        "IOT_RULES_POLL": (2.5, ".env"),
        "IOT_COPY_MIN_ROWS": (3, "iot-stream.toml"),
    }


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert len(secrets) > 8
    urls = {
        "database_url": f"postgresql://iot:{SECRET}@db/iot?password={SECRET}",
        "redis_url": f"redis://user:{SECRET}@host:6379/0",
    }
    for name in secrets:
        value = urls.get(name, f"https://user:{SECRET}@host/{SECRET}?token={SECRET}")
        monkeypatch.setenv(f"IOT_{name.upper()}", value if name.endswith("url") else SECRET)
    found = {one.name: one.value for one in resolved()}
    assert SECRET not in json.dumps(found)
    assert {found[f"IOT_{name.upper()}"] for name in secrets if not name.endswith("url")} == {MASK}
    assert found["IOT_DATABASE_URL"] == "postgresql://iot:***@db/iot?***"
    assert found["IOT_REDIS_URL"] == "redis://user:***@host:6379/0"
    assert found["IOT_WEBHOOK_URL"] == "https://user:***@host/***?***"
    assert SECRET not in run() + run("--json")


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_MQTT_HOST", "broker.example.com")
    monkeypatch.setenv("IOT_BRIDGE_FILTERS", '["a/#"]')
    assert run("--given").splitlines() == [
        "name                source       value",
        "IOT_MQTT_HOST       environment  broker.example.com",
        'IOT_BRIDGE_FILTERS  environment  ["a/#"]',
    ]
    assert run("mqtt_h", "--given").splitlines()[1:] == ["IOT_MQTT_HOST  environment  broker.example.com"]
    assert json.loads(run("--json", "MQTT_HOST")) == [
        {"name": "IOT_MQTT_HOST", "value": "broker.example.com", "source": "environment"}
    ]
