"""What a supervisor that was killed leaves: found, and removed only when nothing of the stack runs."""

import json
import os
from pathlib import Path

import psutil
import pytest

from app.cli.stack import leftovers
from app.doctor.finding import Level
from app.errors import PermanentError
from app.local.layout import Layout
from app.local.session import locked


def layout_with(tmp_path: Path, pid: int, created: float) -> Layout:
    layout = Layout(tmp_path / ".local")
    layout.root.mkdir()
    layout.env.write_text("KAFKA_BROKER=k\n")
    layout.processes.write_text(json.dumps({"kafka": {"pid": pid, "created": created, "restarts": 0}}))
    return layout


def test_no_stack(tmp_path: Path) -> None:
    assert leftovers.look(Layout(tmp_path / ".local")) == []
    assert leftovers.fixes(Layout(tmp_path / ".local")) == []


async def test_files_of_a_stack_that_is_gone_are_removed(tmp_path: Path) -> None:
    layout = layout_with(tmp_path, os.getpid(), 1.0)  # the pid is another process by now
    data = layout.root / "kafka"
    data.mkdir()
    (found,) = leftovers.look(layout)
    assert (found.level, "stack.env, processes.json" in found.what, bool(found.cure)) == (Level.WARNING, True, True)
    (fix,) = leftovers.fixes(layout)
    await fix.apply()
    assert not layout.env.exists()
    assert not layout.processes.exists()
    assert data.exists()
    assert not [*leftovers.look(layout), *leftovers.fixes(layout)]


def test_what_runs_without_a_supervisor_is_left_alone(tmp_path: Path) -> None:
    layout = layout_with(tmp_path, os.getpid(), psutil.Process().create_time())
    (found,) = leftovers.look(layout)
    assert (found.level, "kafka of" in found.what) == (Level.WARNING, True)
    assert "iot-stream up" in found.cure
    assert leftovers.fixes(layout) == []


async def test_a_start_in_between_is_not_disturbed(tmp_path: Path) -> None:
    layout = layout_with(tmp_path, os.getpid(), 1.0)
    (fix,) = leftovers.fixes(layout)
    with locked(layout):
        (found,) = leftovers.look(layout)
        assert found.level is Level.OK
        assert leftovers.fixes(layout) == []
        with pytest.raises(PermanentError, match="supervised by process"):
            await fix.apply()
    assert layout.env.exists()
