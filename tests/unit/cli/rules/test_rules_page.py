"""The examples of docs/rules.md give what the page says."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import build
from tools.documents import DOCS

PAGE = (DOCS / "rules.md").read_text()
EXAMPLES = re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE)
TRANSCRIPTS = [example for example in EXAMPLES if example.startswith("    $ ")]


def steps(transcript: str) -> list[tuple[str, list[str]]]:
    """(command, its output)"""
    found: list[tuple[str, list[str]]] = []
    for line in transcript.splitlines():
        if line.startswith("    $ "):
            found.append((line[6:], []))
        else:
            found[-1][1].append(line[4:])
    return found


def run(command: str) -> list[str]:
    program, *words = command.split()
    assert program == "iot-stream"
    done = CliRunner().invoke(build(words[0]), words, env={"COLUMNS": "100"})
    assert done.exit_code in (0, 1)
    return [line.rstrip() for line in (done.stderr + done.stdout).splitlines()]


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda text: steps(text)[-1][0])
def test_transcripts(transcript: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command, output in steps(transcript):
        if command.startswith("cat "):
            (tmp_path / command[4:]).write_text("\n".join(output) + "\n")
        else:
            assert run(command) == output


def test_there_are_transcripts() -> None:
    commands = [command for transcript in TRANSCRIPTS for command, _ in steps(transcript)]
    assert [command.split()[:3] for command in commands if not command.startswith("cat ")] == [
        ["iot-stream", "rules", "check"],
        ["iot-stream", "rules", "test"],
        ["iot-stream", "rules", "test"],
    ]
