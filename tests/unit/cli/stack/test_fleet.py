"""What `iot-stream fleet` says of what it has sent."""

from pathlib import Path

import pytest

from app.cli.stack.fleet import alone, reported
from app.errors import PermanentError
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


def test_one_fleet_of_a_stack_has_the_client_ids(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with alone(Layout(tmp_path)):
        with pytest.raises(PermanentError, match="send over MQTT already"):
            alone(Layout(tmp_path)).__enter__()
        with alone(Layout(tmp_path / "other")):
            pass
    with alone(Layout(tmp_path)):
        pass
