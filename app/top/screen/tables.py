"""A table of a Snapshot as a widget: keeps its cursor, its order and its filter from one Snapshot to the next."""

from collections.abc import Iterable

from rich.text import Text
from textual.coordinate import Coordinate
from textual.widgets import DataTable

from app.top.model.snapshot import Snapshot
from app.top.text.columns import TableSpec, arranged, numeric, shown
from app.top.text.tone import Tone


class SnapshotTable(DataTable[Text]):
    """A table of a Snapshot; `spec` says what stands in it."""

    def __init__(self, spec: TableSpec) -> None:
        super().__init__(id=spec.name, cursor_type="row")
        self.spec = spec
        self.ordered_by: str | None = None
        self.descending = False
        self._shown: tuple[Snapshot, str, int] | None = None
        self._shape: tuple[list[str], list[str], list[int]] | None = None  # keys of rows; titles, widths of columns

    def show(self, snapshot: Snapshot, wanted: str, width: int) -> None:
        """Draw the rows that hold `wanted`, all for an empty text; `width` of the terminal, in characters, says which
        columns have room.
        """
        self._shown = (snapshot, wanted, width)
        rows = arranged(self.spec, snapshot, self.ordered_by, self.descending, wanted)
        columns = shown(self.spec, width)
        numbers = [numeric(column, rows) for column in columns]
        heads = [
            _aligned(column.title + self._mark(column.title), right)
            for column, right in zip(columns, numbers, strict=True)
        ]
        lines = {
            self.spec.key(row): [
                _aligned(column.cell(row), right, column.tone(column.value(row)))
                for column, right in zip(columns, numbers, strict=True)
            ]
            for row in rows
        }
        titles, widths = [head.plain for head in heads], self._wide_enough(heads, lines.values())
        if (list(lines), titles, widths) == self._shape:
            self._update(lines.values())
        else:
            self._rebuild(heads, widths, lines)
            self._shape = (list(lines), titles, widths)

    def _wide_enough(self, heads: list[Text], lines: Iterable[list[Text]]) -> list[int]:
        """The width of each column; while the columns are the same never less than before, or they would jump."""
        widths = [max(cell.cell_len for cell in cells) for cells in zip(heads, *lines, strict=True)]
        if self._shape is None or self._shape[1] != [head.plain for head in heads]:
            return widths
        return [max(pair) for pair in zip(widths, self._shape[2], strict=True)]

    def _mark(self, title: str) -> str:
        return "" if title != self.ordered_by else " ▼" if self.descending else " ▲"

    def _update(self, lines: Iterable[list[Text]]) -> None:
        """The same rows and columns: what has changed, in place."""
        for row, line in enumerate(lines):
            for column, cell in enumerate(line):
                at = Coordinate(row, column)
                before = self.get_cell_at(at)
                if (before.plain, before.style) != (cell.plain, cell.style):
                    self.update_cell_at(at, cell)

    def _rebuild(self, heads: list[Text], widths: list[int], lines: dict[str, list[Text]]) -> None:
        """Show new rows or columns; the cursor stays on its row."""
        at, top = self.selected, self.scroll_y
        self.clear(columns=True)
        for head, width in zip(heads, widths, strict=True):
            self.add_column(head, width=width)
        for key, line in lines.items():
            self.add_row(*line, key=key)
        if at in lines:
            self.move_cursor(row=list(lines).index(at), scroll=False)
        self.call_after_refresh(self.scroll_to, y=top, animate=False)

    @property
    def selected(self) -> str | None:
        """The key of the row under the cursor; None in an empty table."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def next_order(self) -> None:
        """Sort by the next column; after the last one as the rows come. Numbers have the largest first."""
        if self._shown is None:
            return
        snapshot, wanted, width = self._shown
        titles = [None, *(column.title for column in shown(self.spec, width))]
        self.ordered_by = (
            titles[(titles.index(self.ordered_by) + 1) % len(titles)] if self.ordered_by in titles else None
        )
        column = next((one for one in self.spec.columns if one.title == self.ordered_by), None)
        self.descending = column is not None and numeric(column, self.spec.rows(snapshot))
        self.show(snapshot, wanted, width)

    def reverse(self) -> None:
        """Turn the order of the rows round."""
        self.descending = not self.descending
        if self._shown is not None:
            self.show(*self._shown)


def _aligned(text: str, right: bool, tone: Tone = Tone.PLAIN) -> Text:
    return Text(text, tone.value, justify="right" if right else "left")
