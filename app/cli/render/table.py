"""A table that a person, a pipe and a narrow terminal can read: columns and rows in; lines on standard output out.

No boxes. In a pipe or a file a row is a line, however long. On a terminal that is too narrow for a line a row, the last
column is wrapped; where that leaves too little of it, each row is a block of lines, one for each cell.
"""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = 2  # blanks between two columns
LEAST = 24  # columns of a terminal that the last column of a table wants


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]], console: Console | None = None) -> None:
    """Print the rows, each with a cell for each of `columns`; nothing in a cell is taken for markup. `console` None:
    standard output.
    """
    console = console or Console()
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    if not console.is_terminal:
        print(*_lines([list(map(Text, columns)), *cells]), sep="\n", file=console.file)
        return
    widths = [max(map(_width, (Text(name), *(row[at] for row in cells)))) for at, name in enumerate(columns)]
    left = console.width - sum(widths[:-1]) - GAP * (len(columns) - 1)
    if left >= min(widths[-1], LEAST):
        console.print(_table(columns, cells, min(left, widths[-1])))
        return
    for number, row in enumerate(cells):
        console.print(*([""] if number else []), _block(columns, row), sep="\n")


def _lines(cells: Sequence[Sequence[Text]]) -> Iterator[str]:
    """A line for each row; the lines of a cell are separated by a semicolon."""
    plain = [[cell.plain.replace("\n", "; ") for cell in row] for row in cells]
    widths = [max(map(cell_len, column)) for column in zip(*plain, strict=True)]
    for row in plain:
        padded = (cell + " " * (width - cell_len(cell) + GAP) for cell, width in zip(row, widths, strict=True))
        yield "".join(padded).rstrip()


def _width(cell: Text) -> int:
    return max((line.cell_len for line in cell.split("\n")), default=0)


def _table(columns: Sequence[str], cells: Sequence[Sequence[Text]], last: int) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, collapse_padding=True)
    for at, name in enumerate(columns):
        of_text = at == len(columns) - 1
        table.add_column(name, no_wrap=not of_text, overflow="fold", max_width=last if of_text else None)
    for row in cells:
        table.add_row(*row)
    return table


def _block(columns: Sequence[str], row: Sequence[Text]) -> Table:
    block = Table.grid(padding=(0, GAP, 0, 0))
    block.add_column(no_wrap=True, style="dim")
    block.add_column(overflow="fold")
    for name, cell in zip(columns, row, strict=True):
        if cell.plain:
            block.add_row(name, cell)
    return block
