"""What is said when a program is missing, and which Java will do."""

from pathlib import Path

import pytest

from app.errors import PermanentError
from app.local.servers import tools


def fake_java(directory: Path, version: str) -> Path:
    java = directory / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-20' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(("said", "major"), [("17.0.15", 17), ("21", 21), ("1.8.0_392", 8), ("24-ea", 24)])
def test_java_version(tmp_path: Path, said: str, major: int) -> None:
    assert tools.java_version(str(fake_java(tmp_path, said))) == major


def test_missing_programs_are_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, "11.0.2")  # too old for Kafka 4
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "may_install", lambda: False)
    with pytest.raises(PermanentError) as refused:
        tools.require("java", "mvn")
    message = str(refused.value)
    assert "missing: java, mvn." in message
    assert "maven" in message
    assert "Java 17" in message
    assert "docker compose up" in message
    assert "\n" not in message


def test_what_is_there_needs_no_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, "21.0.1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(tools, "install", lambda packages: pytest.fail(f"installs {packages}"))
    tools.require("java")
    assert tools.find("java") == str(tmp_path / "java")
