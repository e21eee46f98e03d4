"""The command line as a newcomer meets it: version, help of every command, completion."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from app.cli.main import COMMANDS, COMPLETION, DOCS, build, named, spelled_out
from app.runtime.version import VERSION

WIDTH = 60  # columns


def commands(name: str) -> Iterator[tuple[list[str], Any]]:
    """The words of each command below `name`, and the command."""

    def walk(words: list[str], command: Any) -> Iterator[tuple[list[str], Any]]:
        yield words, command
        for inner, below in getattr(command, "commands", {}).items():
            yield from walk([*words, inner], below)

    group: Any = typer.main.get_command(build(name))
    yield from walk([name], group.commands[name])


def printed(*words: str, name: str | None = None) -> str:
    """What the command line prints, on a terminal of 60 columns."""
    done = CliRunner().invoke(build(name or named(words)), list(words), terminal_width=WIDTH)
    assert done.exit_code == 0, done.output
    return done.output


def flat(text: str) -> str:
    """A text without the places where its lines are broken, be it at a blank or at a hyphen."""
    return "".join(text.split())


def test_the_version() -> None:
    assert printed("--version") == f"iot-stream {VERSION}\n"


def test_help_says_where_the_documentation_is() -> None:
    assert flat(f"Documentation: {DOCS}") in flat(printed("--help"))
    assert DOCS.exists()


def test_help_as_a_word() -> None:
    assert spelled_out(["help", "dlq", "replay"]) == ["dlq", "replay", "--help"]
    assert spelled_out(["help"]) == ["--help"]
    assert spelled_out(["users", "add", "help"]) == ["users", "add", "help"]
    assert "the command that follows" in printed("help", "--help")


def test_every_command_is_listed_with_its_whole_summary() -> None:
    listed = flat(printed("--help"))
    assert [name for name, (_, summary) in COMMANDS.items() if flat(f"{name} {summary}") not in listed] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_word_that_was_written_and_fits_60_columns(name: str) -> None:
    """Words in brackets too, which rich takes for markup."""
    for words, command in commands(name):
        shown = printed(*words, "--help", name=name)
        for parameter in command.params:
            assert flat(getattr(parameter, "help", None) or "") in flat(shown), f"{words}: {parameter.name}"
        for inner, below in getattr(command, "commands", {}).items():
            (summary, *_) = (below.short_help or "").split("\n\n")
            assert flat(inner + summary) in flat(shown)
        assert "..." not in shown.partition("Commands:")[2], "a summary is cut off"
        too_wide = [line.strip() for line in shown.splitlines() if len(line) > WIDTH]
        assert [line for line in too_wide if " " in line and line not in (command.help or "")] == [], "no example"
        assert not set("╭│╰─┃") & set(shown)


@pytest.mark.parametrize(
    ("line", "found"),
    [("iot-stream do", ["down", "doctor"]), ("iot-stream dlq exp", ["export"]), ("iot-stream top --on", ["--once"])],
)
def test_completion(line: str, found: list[str]) -> None:
    """As bash asks for it: the command of the line is imported for its options."""
    environment = {COMPLETION: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['iot-stream']; from app.cli.main import main; main()"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.stdout.split() == found, done.stderr


def test_the_list_of_commands_imports_nothing_that_takes_long() -> None:
    code = """
import sys
from app.cli.main import build
try: build(None)(["--help"])
except SystemExit: pass
print(sorted({"pydantic", "rich", "asyncio", "aiokafka", "faust", "asyncpg", "aiohttp", "structlog"} & {*sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
