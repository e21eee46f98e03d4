"""Names of settings: a misspelt one is refused with the nearest; what is not ours to judge is left alone."""

from pathlib import Path

import pytest

from app.errors import SettingsError
from app.settings import Settings, load
from app.settings.names import OTHERS, bare, variables

FIELDS = Settings.model_fields


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.upper().startswith(("IOT_", "MQTT_", "KAFKA_", "DATABASE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def said(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    """The lines about what is wrong."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load()
    return [line.strip() for line in str(raised.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("IOT_TIME_FUTURE_MAXX", "IOT_TIME_FUTURE_MAX"),
        ("IOT_DATABSE_URL", "IOT_DATABASE_URL"),
        ("iot_kafka_brokers", "IOT_KAFKA_BROKER"),
        ("IOT_SETTING_FILE", "IOT_SETTINGS_FILE"),
        ("IOT_MQT_PORT", "IOT_MQTT_PORT"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    assert said(monkeypatch, **{name: "1883"}) == [f"{name}: no setting has this name; did you mean {nearest}?"]


def test_a_name_that_is_like_no_other_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, IOT_XYZ="1") == ["IOT_XYZ: no setting has this name; docs/settings.md has them all"]


def test_all_unknown_names_and_wrong_values_are_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("IOT_RULES_POL=1\nMQTT_PORT=1884\nANYTHING=1\n")
    Path("iot-stream.toml").write_text(
        'kafka_brokers = "k:1"\nIOT_APP = "x"\n[database]\nurl = "postgresql://iot:hunter2@h/iot"\n[strange]\nx = 1\n'
    )
    lines = said(monkeypatch, IOT_KAFKA_PARTITION="1", IOT_KAFKA_PARTITIONS="0")
    assert lines == [
        "IOT_KAFKA_PARTITION: no setting has this name; did you mean IOT_KAFKA_PARTITIONS?",
        "IOT_RULES_POL: no setting has this name; did you mean IOT_RULES_POLL? (.env)",
        "IOT_APP: no setting has this name; did you mean app? (iot-stream.toml)",
        "database: no setting has this name; did you mean database_url, without a table? (iot-stream.toml)",
        "kafka_brokers: no setting has this name; did you mean kafka_broker? (iot-stream.toml)",
        "strange: no setting has this name; docs/settings.md has them all (iot-stream.toml)",
        "IOT_KAFKA_PARTITIONS: Input should be greater than 0",
    ]


def test_names_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        **dict.fromkeys(OTHERS, "x"),
        "IOT_SETTINGS_FILE": "",
        "IOT_TEST_KAFKA": "127.0.0.1:9092",
        "IOT_TEST_OF_NEXT_YEAR": "1",
        "IOT_WORKER_SERVICE_HOST": "10.0.0.1",
        "IOT_WORKER_SERVICE_PORT": "9000",
        "IOT_WORKER_SERVICE_PORT_METRICS": "9000",
        "IOT_WORKER_PORT": "tcp://10.0.0.1:9000",
        "IOT_WORKER_PORT_9000_TCP": "tcp://10.0.0.1:9000",
        "IOT_WORKER_PORT_9000_TCP_ADDR": "10.0.0.1",
        "IOT_WORKER_PORT_9000_TCP_PORT": "9000",
        "IOT_WORKER_PORT_9000_TCP_PROTO": "tcp",
        "IOT_STREAM_QUIC_PORT_14567_UDP": "udp://10.0.0.1:14567",
        # services named iot-mqtt and iot-metrics
        "IOT_MQTT_PORT": "tcp://10.0.0.2:1883",
        "IOT_METRICS_PORT": "tcp://10.0.0.3:9000",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert (settings.mqtt_port, settings.metrics_port) == (1883, 9000)


def test_a_port_of_nothing_is_not_taken_for_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(said(monkeypatch, IOT_WORKER_PORT="9000", IOT_KAFKA_BROKER="tcp://kafka:9092")) == 2


def test_a_variable_of_other_programs_is_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").write_text("MQTT_PORT=1884\nDATABASE_URL=postgresql://u:hunter2@h/d\n")
    monkeypatch.setenv("MQTT_HOST", "broker.example.com")
    load()
    load()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "iot-stream: warning: MQTT_HOST is set and not read: iot-stream reads IOT_MQTT_HOST",
        "iot-stream: warning: DATABASE_URL is set and not read: iot-stream reads IOT_DATABASE_URL",
    ]


def test_a_bare_variable_beside_ours_is_no_news() -> None:
    names = ("KAFKA_BROKER", "MQTT_HOST", "MQTT_PASSWORD", "DATABASE_URL", "METRICS_URL", "LOG_LEVEL", "APP")
    given = {"kafka_broker", "mqtt_host", "mqtt_password_file", "database_url"}
    assert bare(names, (), given, FIELDS) == []
    assert [line.split()[0] for line in bare(names, (), (), FIELDS)] == list(names[:4])
    assert [line.split()[0] for line in bare((), ("MQTT_PORT", "KAFKA_PORT", "MQTT_HOST"), (), FIELDS)] == ["MQTT_HOST"]


def test_every_name_is_in_the_documents() -> None:
    text = (Path(__file__).parents[3] / "docs" / "settings.md").read_text()
    assert [name for name in variables(FIELDS) if f"| `{name}` |" not in text] == []
