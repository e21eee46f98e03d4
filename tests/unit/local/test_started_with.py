"""What `up` says of a stack that runs with other settings than are asked for."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.cli.stack.up import Wanted, prepare, unlike
from app.local.layout import DEFAULT_PORTS, Layout
from app.local.sinks.sinks import OWN
from app.local.stack import Stack
from app.local.started_with import differences, record
from app.settings import Settings


def changed(**values: object) -> Settings:
    return Settings(_env_file=None).model_copy(update=values)


def test_settings_that_are_alike_are_no_news(tmp_path: Path) -> None:
    record(tmp_path / "settings.json", changed(kafka_password=SecretStr("s3cret-of-kafka")))
    assert differences(tmp_path / "settings.json", changed(kafka_password=SecretStr("s3cret-of-kafka")), ()) == []


def test_each_setting_that_differs_is_named_without_its_secret(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    record(file, changed(kafka_password=SecretStr("s3cret-of-kafka"), batch_max_rows=7, sinks=("redis",)))
    assert file.stat().st_mode & 0o777 == 0o600
    assert "s3cret-of-kafka" not in file.read_text()
    now = changed(kafka_password=SecretStr("another"), batch_max_rows=8, audit_topic="audit", database_timeout=1.0)
    assert differences(file, now, ("database_timeout",)) == [
        "IOT_KAFKA_PASSWORD is another one",
        "IOT_BATCH_MAX_ROWS is 7, not 8",
        'IOT_SINKS is ["redis"], not []',
        'IOT_AUDIT_TOPIC is not set, not "audit"',
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"salt": 5}', "{"])
def test_a_stack_of_an_earlier_version_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text)
    assert differences(tmp_path / "settings.json", changed(), ()) == []
    assert differences(tmp_path / "none", changed(), ()) == []


def test_what_the_stack_sets_itself_is_not_compared(tmp_path: Path) -> None:
    own = Stack(Layout(tmp_path), DEFAULT_PORTS, lambda line: None).own_settings()
    assert {"kafka_broker", "database_url", "mqtt_password", "metrics_url", "state_dir", "quic_ca_file"} <= own
    assert {name.lower() for name in OWN} <= own
    assert {"batch_max_rows", "log_level", "app"} & own == set()


def test_up_of_a_stack_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_BATCH_MAX_ROWS", "7")
    layout = Layout(tmp_path)
    prepare(layout, Wanted(fleet=True))
    assert unlike(layout, Wanted(fleet=True)) == []
    monkeypatch.setenv("IOT_BATCH_MAX_ROWS", "8")
    monkeypatch.setenv("IOT_KAFKA_BROKER", "127.0.0.1:12345")
    lines = unlike(layout, Wanted(fleet=False))
    assert lines == [
        "the stack that runs is another: IOT_BATCH_MAX_ROWS is 7, not 8; to change that: iot-stream down, then up",
        "the stack that runs is another: the simulated devices run, and --no-fleet does not stop them; to change that: "
        "iot-stream down, then up",
    ]
