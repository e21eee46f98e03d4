"""docs/cli.md: every command has an example that its own parser takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.command_page import LeafCommand, help_text, leaves
from tools.documents import DOCS

LEAVES = list(leaves())
PAGE = (DOCS / "cli.md").read_text()
each = pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.name)


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of each iot-stream in lines for a shell, without `iot-stream`."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="|&;<>()\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] | None = None
    for word in lexer:
        if re.fullmatch(r"[|&;<>()\n]+", word):
            if words is not None:
                yield words
            words = None
        elif words is not None:
            words.append(word)
        elif word == "iot-stream" or word.endswith("=$(iot-stream"):
            words = []
    if words is not None:
        yield words


@each
def test_it_has_an_example_of_itself(leaf: LeafCommand) -> None:
    found = [one for one in calls("\n".join(help_text(leaf.command).examples)) if one[: len(leaf.words)] == leaf.words]
    assert found, "a sentence `Example: iot-stream ...` at the end of its docstring"
    assert f"\n## {leaf.name}\n" in PAGE


@each
def test_its_parser_takes_its_examples(leaf: LeafCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "rules.json",
        "readings.csv",
        "readings.ndjson",
        "expected.json",
        "token",
        "ca.pem",
        "n7.pem",
        "n7.key",
    ):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for words in calls("\n".join(help_text(leaf.command).examples)):
        other = next(one for one in LEAVES if words[: len(one.words)] == one.words)
        context = other.command.make_context(other.name, words[len(other.words) :], resilient_parsing=False)
        assert not context.args, "all of them are known"


def test_an_option_that_there_is_not_is_found() -> None:
    (leaf,) = [one for one in LEAVES if one.name == "status"]
    with pytest.raises(Exception, match="No such option: --jason"):
        leaf.command.make_context("status", ["--jason"])


def test_calls_in_lines_for_a_shell() -> None:
    text = "# with\niot-stream a \\\n  -b 'c d' &\nX=$(iot-stream e) | iot-stream f - > g && set -a\nA=1 iot-stream h"
    assert list(calls(text)) == [["a", "-b", "c d"], ["e"], ["f", "-"], ["h"]]


def test_every_line_of_the_page_is_rendered() -> None:
    assert "\x08" not in PAGE
    assert PAGE.count("\n## ") == len(LEAVES) > 45
    tables = re.findall(r"^\| `(.+?)` \|", PAGE, re.M)
    assert len(tables) > 150
