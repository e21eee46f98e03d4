"""Settings of a local stack that nobody has read."""

import os
from pathlib import Path

import pytest

from app.cli.stack.unread_env import unread_env


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("IOT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.env").touch()


def test_of_a_stack_that_runs_here(tmp_path: Path) -> None:
    assert str(unread_env()).endswith(f"set -a; . {tmp_path}/.local/stack.env; set +a")
    (tmp_path / ".local" / "stack.env").unlink()
    assert unread_env() is None


def test_an_address_that_is_set_is_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("IOT_MQTT_HOST=mqtt\n")
    assert unread_env() is None
    (tmp_path / ".env").unlink()
    monkeypatch.setenv("IOT_KAFKA_BROKER", "127.0.0.1:9092")
    assert unread_env() is None


def test_wrong_settings_have_been_said_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_MQTT_PORT", "many")
    assert unread_env() is None
