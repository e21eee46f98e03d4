"""What `iot-stream up` is asked for: handed on to a supervisor in the background, left in the directory, and said."""

from pathlib import Path

import pytest

from app.cli.stack.up import Wanted, prepare, sinks_ready
from app.errors import SettingsError
from app.local.layout import Layout


def test_a_supervisor_in_the_background_is_asked_for_the_same() -> None:
    assert Wanted(fleet=True).words() == []
    wanted = Wanted.of(True, "quic,http", "redis,parquet")
    assert wanted == Wanted(fleet=False, ways=("http", "quic"), sinks=("parquet", "redis"))
    assert wanted.words() == ["--no-fleet", "--ingest", "http,quic", "--sinks", "parquet,redis"]


def test_what_an_earlier_start_was_asked_for_is_forgotten(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    prepare(layout, Wanted(fleet=True, ways=("tcp",), sinks=("influx",)))
    assert (layout.ways(), layout.sinks(), layout.fleet_wanted.exists()) == (("tcp",), ("influx",), True)
    layout.want_sink_servers(["influxdb"])
    prepare(layout, Wanted(fleet=False, sinks=("redis",)))
    assert (layout.ways(), layout.sinks(), layout.fleet_wanted.exists()) == ((), ("redis",), False)
    assert layout.sink_servers() == ()


def test_one_that_could_write_nowhere_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IOT_FEED_URL", raising=False)
    with pytest.raises(SettingsError, match="IOT_FEED_URL"):
        Wanted.of(True, "", "http_feed")


def test_the_line_says_no_password() -> None:
    env = {"REDIS_URL": "redis://:secret@127.0.0.1:6379/0", "PARQUET_DIR": "/srv/parquet", "HTTP_URL": "http://h"}
    assert sinks_ready(env) == [("sink parquet", "/srv/parquet"), ("sink redis", "127.0.0.1:6379/0")]
