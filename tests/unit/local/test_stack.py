"""What a stack consists of, before anything is started."""

from pathlib import Path

import pytest

from app.errors import PermanentError
from app.local.layout import DEFAULT_PORTS, SINK_SERVERS, SINKS, WAYS, Layout, sink_program
from app.local.servers.tools import PACKAGES, find
from app.local.stack import PROGRAMS, SERVERS, STOP_ORDER, Stack


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(Layout(tmp_path), DEFAULT_PORTS, lambda line: None)


def test_what_puts_work_in_stops_first_and_servers_last(stack: Stack) -> None:
    assert set(STOP_ORDER) == set(stack.services)
    assert len(STOP_ORDER) == len(stack.services)
    place = {name: number for number, name in enumerate(STOP_ORDER)}
    sinks = [place[sink_program(sink)] for sink in SINKS]
    assert max(place[name] for name in ("fleet", *WAYS, "bridge")) < min(sinks)
    assert max(sinks) < min(place[name] for name in (*SINK_SERVERS, *SERVERS)), "they write what they hold"
    assert max(place[name] for name in PROGRAMS) < min(place[name] for name in SERVERS)


def test_each_sink_is_its_command_on_a_port_of_its_own(stack: Stack) -> None:
    for sink in SINKS:
        process = stack.services[sink_program(sink)].process
        assert process.command[-2:] == ["sink", sink]
        assert process.env["IOT_METRICS_PORT"] == str(DEFAULT_PORTS[sink_program(sink)])
        assert process.env["IOT_METRICS_HOST"] == "127.0.0.1"
    assert len({process.log for process in (one.process for one in stack.services.values())}) == len(stack.services)


def test_none_of_them_runs_unless_somebody_asks(stack: Stack) -> None:
    assert stack.layout.sinks() == ()
    assert not (stack.layout.root / "redis").exists(), "no password of a server that nobody wants"


def test_the_programs_of_all_servers_are_asked_for_together(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IOT_REDIS_URL", "IOT_INFLUX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IOT_CACHE_DIR", str(stack.layout.root / "nothing"))
    assert stack.commands() == ["java", "mvn", "mosquitto", "mosquitto_passwd"]
    assert stack.commands({"kafka"}) == ["mosquitto", "mosquitto_passwd"]
    stack.layout.want_sinks(SINKS)
    assert stack.commands() == ["java", "mvn", "mosquitto", "mosquitto_passwd", "redis-server", "influxd"]
    assert set(stack.commands()) == set(PACKAGES)
    stack.layout.root.joinpath("sinks.wanted").unlink()
    stack.layout.want_sinks(["parquet"])
    assert stack.commands({"kafka", "mosquitto"}) == []


def test_what_is_missing_is_named_at_once_before_anything_starts(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no account of a distribution may install with this
    monkeypatch.setenv("IOT_CACHE_DIR", str(tmp_path / "nothing"))
    missing = [command for command in stack.commands() if find(command) is None]
    assert {"java", "mvn"} <= set(missing)
    with pytest.raises(PermanentError) as refused:
        stack.bring_up()
    assert f"missing: {', '.join(missing)}." in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert not stack.layout.processes.exists()
