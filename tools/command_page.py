"""docs/cli.md: every command with its arguments, options and examples, from the command line itself."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import typer.main

from app.cli.main import COMMANDS, build

_EXAMPLE = re.compile(r"(Examples?|Or)(: |, .*:$)")
_WHERE = re.compile(r"docs/([\w.-]+\.md)")


class HelpText(NamedTuple):
    """The help of a command, taken apart."""

    about: list[str]  # paragraphs
    examples: list[str]  # lines for a shell


class LeafCommand(NamedTuple):
    """A command that does something: no group of commands."""

    words: list[str]  # dlq, replay
    command: Any  # of click

    @property
    def name(self) -> str:
        """The words as they are typed."""
        return " ".join(self.words)


def leaves() -> Iterator[LeafCommand]:
    """Every command that is no group, in the order of the help."""
    for name in COMMANDS:
        group: Any = typer.main.get_command(build(name))
        yield from _below([name], group.commands[name])


def _below(words: list[str], command: Any) -> Iterator[LeafCommand]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield LeafCommand(words, command)
    for name, below in (inner or {}).items():
        yield from _below([*words, name], below)


def help_text(command: Any) -> HelpText:
    """The paragraphs of a command's help before its examples, and the lines of its examples."""
    about, examples = list[str](), list[str]()
    for paragraph in (command.help or "").split("\n\n"):
        verbatim = paragraph.startswith("\b\n")
        lines = paragraph.removeprefix("\b\n").splitlines()
        if verbatim:
            examples += lines
            continue
        text = " ".join(lines)
        begin = _EXAMPLE.match(text)
        if begin and begin[2] == ": ":
            examples.append(text[begin.end() :])
        elif begin:
            examples.append(f"# {text.rstrip(':').partition(', ')[2]}")
        elif examples:
            examples.append(text)
        else:
            about.append(text)
    return HelpText(about, examples)


def command_pages() -> str:
    """Markdown: a heading, the help, the usage, the examples and a table for each command."""
    return "\n\n".join("\n\n".join(_page(leaf)) for leaf in leaves())


def _page(leaf: LeafCommand) -> Iterator[str]:
    text = help_text(leaf.command)
    yield f"## {leaf.name}"
    yield from (_WHERE.sub(r"[\1](\1)", _escaped(paragraph)) for paragraph in text.about)
    usage = leaf.command.make_context(f"iot-stream {leaf.name}", [], resilient_parsing=True).get_usage()
    yield f"    {usage.removeprefix('Usage: ')}"
    if text.examples:
        yield "For example:"
        yield "\n".join(f"    {line}" for line in text.examples)
    rows = [*_rows(leaf.command)]
    if rows:
        yield "\n".join(["| argument, option | meaning |", "| --- | --- |", *rows])


def _rows(command: Any) -> Iterator[str]:
    for parameter in command.params:
        context = command.make_context("x", [], resilient_parsing=True)
        record = parameter.get_help_record(context)
        if record and parameter.name != "help":
            name, meaning = record
            yield f"| `{_cell(name)}` | {_cell(_escaped(meaning))} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Words with <, > and * as they are, outside of `code`."""
    parts = text.split("`")
    return "`".join(part if at % 2 else re.sub(r"([<>*])", r"\\\1", part) for at, part in enumerate(parts))
