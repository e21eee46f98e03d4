"""What `iot-stream fleet` says of what it has sent."""

import asyncio
import threading
from pathlib import Path

import pytest

from app.cli.stack.fleet import alone, reported, send
from app.errors import PermanentError
from app.local.fleet.gateway_fleet import Outlet
from app.local.layout import Layout


def test_the_counts_are_said_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"sent": 0}
    with reported(lambda: f"{counts['sent']} readings sent"):
        counts["sent"] = 7
    assert capsys.readouterr().err == "7 readings sent\n"


def test_the_counts_are_said_when_it_ends_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), reported(lambda: "3 readings sent"):
        raise RuntimeError
    assert capsys.readouterr().err == "3 readings sent\n"


async def test_a_stop_that_came_before_the_first_reading_ends_it(tmp_path: Path) -> None:
    """While the rules are seeded, for which a database that is away may take long."""

    def made() -> Outlet:
        raise AssertionError

    stopped = threading.Event()
    stopped.set()
    await asyncio.wait_for(send(made, 1, 1.0, tmp_path / "fleet.json", stopped), 10)


def test_one_fleet_of_a_stack_has_the_client_ids(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with alone(Layout(tmp_path)):
        with pytest.raises(PermanentError, match="send over MQTT already"):
            alone(Layout(tmp_path)).__enter__()
        with alone(Layout(tmp_path / "other")):
            pass
    with alone(Layout(tmp_path)):
        pass
