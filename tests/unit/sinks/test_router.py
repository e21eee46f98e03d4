"""The configured sinks: kinds, tables of the TOML file, and mistakes in them."""

from pathlib import Path

import pytest

from app.errors import SettingsError
from app.settings import Settings, load
from app.settings.process import METRICS_PORTS
from app.sinks.router import SinkInstance, instances

TABLES = """
kafka_broker = "k:9092"
[sinks.archive]
kind = "parquet"
dir = "/data"
rotate_seconds = 60
users = ["eu-*"]
cardinality_max = 7
metrics_port = 9100
[sinks.influx]
url = "http://influx:8086"
"""


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "iot-stream.toml"
    path.write_text(TABLES)
    return path


def names(found: list[SinkInstance]) -> list[tuple[str, str]]:
    return [(one.name, one.kind) for one in found]


def test_tables_are_instances_with_settings_of_their_own(toml: Path) -> None:
    archive, influx = instances(load())
    assert names([archive, influx]) == [("archive", "parquet"), ("influx", "influx")]
    settings = archive.settings
    assert (settings.parquet_dir, settings.parquet_rotate_seconds, settings.sink_users) == ("/data", 60, ("eu-*",))
    assert (settings.sink_cardinality_max, settings.kafka_broker, archive.metrics_port) == (7, "k:9092", 9100)
    assert influx.settings.influx_url is not None
    assert influx.settings.sink_users == ("*",)
    assert influx.metrics_port == METRICS_PORTS["sink-influx"]


def test_names_choose_and_kinds_need_no_table(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(instances(load(), ["redis", "archive", "redis"])) == [("redis", "redis"), ("archive", "parquet")]
    monkeypatch.setenv("IOT_SINKS", "archive, http_feed")
    assert names(instances(load())) == [("archive", "parquet"), ("http_feed", "http_feed")]
    assert instances(load(), ["archive"])[0].settings.parquet_dir == "/data"


def test_without_any_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert instances(load()) == []
    assert names(instances(Settings(_env_file=None, sinks="grpc,parquet"))) == [
        ("grpc", "grpc"),
        ("parquet", "parquet"),
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[sinks.a]\n", "[sinks.a] (iot-stream.toml): kind is 'a'; kinds are parquet"),
        ('[sinks.a]\nkind = "pq"', "kind is 'pq'"),
        ('[sinks.A_b]\nkind = "redis"', "a name is 1 to 40 small letters"),
        (
            '[sinks.a]\nkind = "parquet"\nrotate_second = 5',
            "rotate_second: no setting of parquet has this name",
        ),
        ('[sinks.a]\nkind = "parquet"\nkafka_broker = "x:1"', "kafka_broker: no setting of parquet has this name"),
        ('[sinks.a]\nkind = "parquet"\nrotate_seconds = -5', "rotate_seconds: Input should be greater than 0"),
        ('[sinks.a]\nkind = "influx"\nurl = "nonsense"', "url: give a URL such as"),
        ("[sinks]\na = 5", "sinks.a: is no table"),
    ],
)
def test_what_is_wrong_is_named(toml: Path, table: str, words: str) -> None:
    toml.write_text(table)
    with pytest.raises(SettingsError) as wrong:
        instances(load())
    assert words in str(wrong.value)
    assert "nonsense" not in str(wrong.value)


def test_an_unknown_name_is_reported_with_the_known_names(toml: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no sink 'redsi': kinds and tables .* are parquet, .*, archive"):
        instances(load(), ["redsi"])
