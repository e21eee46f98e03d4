"""The port of each program's metrics: its own, unless a setting names one."""

import pytest

from app.local.layout import DEFAULT_PORTS, SINKS, WAYS, sink_program
from app.settings import Settings
from app.settings.process import METRICS_PORTS, metrics_port
from app.sinks.router import KINDS, SinkInstance


def test_every_program_has_a_port_of_its_own() -> None:
    assert list(METRICS_PORTS) == ["worker", "bridge", "notifier", *WAYS, *map(sink_program, SINKS)]
    assert sorted(METRICS_PORTS.values()) == list(range(9000, 9000 + len(METRICS_PORTS)))
    assert METRICS_PORTS.items() <= DEFAULT_PORTS.items()
    assert Settings.model_fields["metrics_port"].default == METRICS_PORTS["worker"]


@pytest.mark.parametrize("program", METRICS_PORTS)
def test_a_setting_counts_first(program: str) -> None:
    assert metrics_port(Settings(), program) == METRICS_PORTS[program]
    assert metrics_port(Settings(metrics_port=9500), program) == 9500
    assert metrics_port(Settings(metrics_port=9000), program) == 9000
    assert metrics_port(Settings(metrics_port=0), program) == 0, "a free one"


@pytest.mark.parametrize("kind", KINDS)
def test_a_sink_has_the_port_of_its_kind(kind: str) -> None:
    assert SinkInstance("lake", kind, Settings()).metrics_port == METRICS_PORTS[f"sink-{kind}"]
