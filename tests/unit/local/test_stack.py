"""What a stack consists of, before anything is started."""

from pathlib import Path

import pytest

from app.local.layout import DEFAULT_PORTS, SINK_SERVERS, SINKS, WAYS, Layout, sink_program
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
