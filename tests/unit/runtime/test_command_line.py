"""How our programs are started by one another."""

import sys

import pytest

from app.runtime.command_line import program_command


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bridge", ["-m", "app", "bridge"]),
        ("sink-parquet", ["-m", "app", "sink", "parquet"]),
        ("sink-http_feed", ["-m", "app", "sink", "http_feed"]),
        ("worker", ["-m", "faust", "-A", "app", "worker", "-l", "warn", "--without-web"]),
    ],
)
def test_commands(name: str, words: list[str]) -> None:
    assert program_command(name) == [sys.executable, *words]
