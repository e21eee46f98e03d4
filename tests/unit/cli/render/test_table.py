"""Tables in a pipe, on a wide terminal, on a narrow one: nothing is cut off, and nothing is drawn around it."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console
from rich.text import Text

from app.cli.render.table import LEAST, print_table

COLUMNS = ("level", "area", "what")
ROWS = [
    ("ok", "kafka", "3 brokers answer"),
    ("broken", "database", "[red]the table raw_telemetry lacks a column: " + "temperature " * 6 + "[/red]"),
]


Rows = Sequence[tuple[str, ...]]


def printed(width: int, terminal: bool = True, rows: Rows | None = None, *columns: str) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    print_table(columns or COLUMNS, ROWS if rows is None else rows, console)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def flat(lines: list[str]) -> str:
    return "".join("".join(lines).split())


def test_in_a_pipe_a_row_is_a_line() -> None:
    lines = [f"{level:<8}{area:<10}{what}" for level, area, what in (COLUMNS, *ROWS)]
    assert printed(20, terminal=False) == lines
    assert printed(20, False, [("a", "one\ntwo")], "x", "y") == ["x  y", "a  one; two"]


@pytest.mark.parametrize("width", [200, 80, 60, 43, 30])
def test_a_terminal_sees_every_word_within_its_columns(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    begin = 18 if lines[0].startswith("level   area") else 7  # of the last column; of the cells of a block
    assert flat([ROWS[1][2]]) in flat([line[begin:] for line in lines]), "no markup, and nothing is cut off"
    assert not set("│┃━─╭┏") & set("".join(lines))


def test_the_last_column_is_wrapped_as_long_as_it_is_wide_enough() -> None:
    least = len("broken  database  ") + LEAST
    assert printed(least)[0].split() == ["level", "area", "what"]
    assert printed(least - 1)[:3] == ["level  ok", "area   kafka", "what   3 brokers answer"]
    assert printed(least - 1)[3] == "", "a blank line between two rows"


def test_a_cell_may_have_lines_of_its_own() -> None:
    rows = [("a", "one\ntwo")]
    assert printed(80, True, rows, "x", "y") == ["x  y", "a  one", "   two"]


def test_no_rows() -> None:
    assert printed(80, rows=[]) == ["level  area  what"]


def test_an_empty_cell_is_no_line_of_a_block() -> None:
    rows = [("truck-1-of-a-long-name-indeed", "", "too hot")]
    lines = ["device   truck-1-of-a-long-name-indeed", "message  too hot"]
    assert printed(40, True, rows, "device", "value", "message") == lines


def test_colours_are_for_a_terminal() -> None:
    out = io.StringIO()
    print_table(("state",), [(Text("ok", "green"),)], Console(file=out, force_terminal=True, color_system="standard"))
    assert "\x1b[32mok" in out.getvalue()
    out = io.StringIO()
    print_table(("state",), [(Text("ok", "green"),)], Console(file=out))
    assert out.getvalue() == "state\nok\n"
