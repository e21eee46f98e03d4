"""The destinations of the sinks of a local stack: its own servers and directory, unless the settings name others."""

from pathlib import Path
from typing import Any

import pytest

from app.errors import SettingsError
from app.local.layout import DEFAULT_PORTS, SINKS, Layout
from app.local.sinks.sinks import RECEIVERS, LocalSinks, refuse_without_receiver
from app.settings import Settings
from tests.deploy.settings_named import unknown

OWN = ("parquet", "influx", "redis")  # that need no settings


def sinks(root: Path) -> LocalSinks:
    return LocalSinks(Layout(root), DEFAULT_PORTS)


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


def test_what_is_said_are_settings(tmp_path: Path) -> None:
    made = sinks(tmp_path).settings(SINKS, settings())
    assert unknown({f"IOT_{name}" for name in made}) == set()
    read = settings(**{name.lower(): value for name, value in made.items()})
    assert read.model_fields_set >= {"parquet_dir", "redis_url", "influx_url"}
    assert Path(made["PARQUET_DIR"]) == tmp_path / "parquet"


def test_each_has_its_server_and_only_that(tmp_path: Path) -> None:
    made = sinks(tmp_path)
    assert made.servers(OWN, settings()) == ("redis", "influxdb")
    assert made.servers(["redis"], settings()) == ("redis",)
    assert made.servers(["parquet", *RECEIVERS], settings()) == ()
    assert made.settings((), settings()) == {}
    assert set(made.settings(["redis"], settings())) == {"REDIS_URL"}
    assert not (tmp_path / "influxdb").exists(), "no password of what nobody wants"


def test_servers_of_somebody_elses_are_left_to_him(tmp_path: Path) -> None:
    given = settings(redis_url="redis://cache:6379/1", influx_url="http://influx:8086", parquet_dir="/srv/lake")
    assert sinks(tmp_path).servers(OWN, given) == ()
    assert sinks(tmp_path).settings(OWN, given) == {}


def test_a_shell_with_an_earlier_stack_env_uses_the_stacks_servers(tmp_path: Path) -> None:
    made = sinks(tmp_path)
    read = settings(**{name.lower(): value for name, value in made.settings(OWN, settings()).items()})
    assert made.servers(OWN, read) == ("redis", "influxdb")
    said = made.settings(OWN, read)
    assert {"PARQUET_DIR", "REDIS_URL", "INFLUX_URL"} <= said.keys()


def test_nor_does_one_whose_stack_had_other_ports(tmp_path: Path) -> None:
    before = LocalSinks(Layout(tmp_path), {**DEFAULT_PORTS, "redis": 7001, "influxdb": 7002}).settings(OWN, settings())
    read = settings(**{name.lower(): value for name, value in before.items()})
    assert sinks(tmp_path).servers(OWN, read) == ("redis", "influxdb")
    said = sinks(tmp_path).settings(OWN, read)
    assert said["REDIS_URL"].endswith(":6379/0")
    assert said["INFLUX_URL"] == "http://127.0.0.1:8086"


def test_a_time_to_rotate_that_was_set_counts(tmp_path: Path) -> None:
    assert sinks(tmp_path).settings(["parquet"], settings())["PARQUET_ROTATE_SECONDS"] == "60"
    assert "PARQUET_ROTATE_SECONDS" not in sinks(tmp_path).settings(["parquet"], settings(parquet_rotate_seconds=600))


def test_metrics_of_each_have_a_name_of_their_own(tmp_path: Path) -> None:
    said = sinks(tmp_path).addresses(SINKS)
    assert said["SINK_PARQUET_METRICS_URL"] == "http://127.0.0.1:9007"
    assert len(set(said.values())) == len(SINKS) == len(said)


@pytest.mark.parametrize("sink", RECEIVERS)
def test_one_without_a_receiver_is_refused_by_the_name_of_its_setting(sink: str) -> None:
    name = RECEIVERS[sink]
    assert name in Settings.model_fields
    with pytest.raises(SettingsError, match=f"IOT_{name.upper()}"):
        refuse_without_receiver([*OWN, sink], settings())
    refuse_without_receiver(OWN, settings())
