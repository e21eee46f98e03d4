"""The tables: the columns of each, how a cell reads and sorts, and the least width of the terminal that shows the
column.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from app.top.model.snapshot import AlertRow, PartitionRow, ProgramRow, SinkRow, Snapshot
from app.top.text import words
from app.top.text.tone import Tone

OWNER = 28  # characters of the name of a group's member that are shown


class TableColumn(NamedTuple):
    """One column. `value` is sorted by; `least` is the width of the terminal from which on the column is shown."""

    title: str
    value: Callable[[Any], Any]
    text: Callable[[Any], str] = str
    least: int = 0
    tone: Callable[[Any], Tone] = lambda _: Tone.PLAIN  # of a value

    def cell(self, row: Any) -> str:
        """The text that stands in the cell of a row."""
        return self.text(self.value(row))


class TableSpec(NamedTuple):
    """A table of a Snapshot: its rows, and the name of each row."""

    name: str
    rows: Callable[[Snapshot], Sequence[Any]]
    key: Callable[[Any], str]
    columns: tuple[TableColumn, ...]


def _state(row: ProgramRow) -> str:
    if not row.up:
        return "down"
    return "not ready" if row.ready is False else "up"


def _text(value: str) -> str:
    return value or words.UNKNOWN


def _short(value: str) -> str:
    return value if len(value) <= OWNER else f"{value[: OWNER - 2]}.."


def _how(value: str) -> Tone:
    return {"up": Tone.GOOD, "not ready": Tone.WARNING, "down": Tone.BAD, "critical": Tone.BAD}.get(value, Tone.PLAIN)


def _circuit(value: str) -> Tone:
    return {"closed": Tone.GOOD, "half-open": Tone.WARNING, "open": Tone.BAD}.get(value, Tone.PLAIN)


def _wrong(value: float) -> Tone:
    return Tone.BAD if value else Tone.PLAIN


PROGRAMS = TableSpec(
    "programs",
    lambda snapshot: snapshot.programs,
    lambda row: f"{row.name} {row.where}",
    (
        TableColumn("program", lambda row: row.name),
        TableColumn("state", _state, tone=_how),
        TableColumn("per s", lambda row: row.per_second, words.rate),
        TableColumn("cpu", lambda row: row.cpu, words.percent),
        TableColumn("mem", lambda row: row.memory, words.size),
        TableColumn("uptime", lambda row: row.uptime, words.seconds),
        TableColumn("version", lambda row: row.version, _text, 75),
        TableColumn("address", lambda row: row.where, str, 100),
        TableColumn("why", lambda row: row.problem, str, 100),
    ),
)
PARTITIONS = TableSpec(
    "partitions",
    lambda snapshot: snapshot.partitions,
    lambda row: str(row.partition),
    (
        TableColumn("partition", lambda row: row.partition, str),
        TableColumn("lag", lambda row: row.lag, words.count),
        TableColumn("lag time", lambda row: row.lag_seconds, words.seconds),
        TableColumn("rows/s", lambda row: row.rows_per_second, words.rate),
        TableColumn("owner", lambda row: _short(row.owner), _text),
        TableColumn("difference", lambda row: row.difference, words.whole, 75, _wrong),
        TableColumn("committed", lambda row: row.committed, words.whole, 100),
        TableColumn("end", lambda row: row.end, words.whole, 100),
    ),
)
BOOKS = TableSpec(
    "books",
    lambda snapshot: snapshot.partitions,
    lambda row: str(row.partition),
    (
        TableColumn("part", lambda row: row.partition, str),
        TableColumn("received", lambda row: row.received, words.whole),
        TableColumn("stored", lambda row: row.stored, words.whole),
        TableColumn("dup", lambda row: row.duplicate, words.whole),
        TableColumn("dead", lambda row: row.dead_lettered, words.whole),
        TableColumn("dropped", lambda row: row.dropped, words.whole),
        TableColumn("diff", lambda row: row.difference, words.whole, tone=_wrong),
    ),
)
ALERTS = TableSpec(
    "alerts",
    lambda snapshot: snapshot.alerts,
    lambda row: f"{row.device}\n{row.alert_id}",
    (
        TableColumn("severity", lambda row: row.severity, tone=_how),
        TableColumn("device", lambda row: row.device),
        TableColumn("since", lambda row: row.since, words.seconds),
        TableColumn("rule", lambda row: row.rule),
        TableColumn("value", lambda row: row.value, lambda value: words.UNKNOWN if value is None else f"{value:g}", 75),
        TableColumn("state", lambda row: row.state, str, 75),
        TableColumn("message", lambda row: row.message, str, 75),
    ),
)
SINKS = TableSpec(
    "sinks",
    lambda snapshot: snapshot.sinks,
    lambda row: f"{row.sink}\n{row.program}",
    (
        TableColumn("sink", lambda row: row.sink),
        TableColumn("circuit", lambda row: row.breaker, _text, tone=_circuit),
        TableColumn("written/s", lambda row: row.per_second, words.rate),
        TableColumn("lag", lambda row: row.lag, words.count),
        TableColumn("oldest", lambda row: row.waiting, words.seconds),
        TableColumn("difference", lambda row: row.difference, words.whole, 75, _wrong),
        TableColumn("in memory", lambda row: row.held_bytes, words.size, 75),
        TableColumn("refused", lambda row: row.outcomes.get("refused", 0.0), words.count, 90, _wrong),
        TableColumn("series", lambda row: row.series, words.count, 75),
        TableColumn("limit", lambda row: row.series_limit or None, words.count, 100),
        TableColumn("dropped", lambda row: row.series_dropped, words.count, 75, _wrong),
        TableColumn("most series", lambda row: row.most_series, str, 110),
    ),
)
SPECS = (PROGRAMS, PARTITIONS, BOOKS, ALERTS, SINKS)


def shown(spec: TableSpec, width: int) -> list[TableColumn]:
    """The columns that have room in a terminal of so many characters."""
    return [column for column in spec.columns if width >= column.least]


def arranged(
    spec: TableSpec, snapshot: Snapshot, sort: str | None = None, descending: bool = False, wanted: str = ""
) -> list[Any]:
    """The rows that hold `wanted` in any cell, whatever its case, by the column titled `sort`; what is unknown last."""
    rows = [row for row in spec.rows(snapshot) if _holds(spec, row, wanted.casefold())]
    column = next((one for one in spec.columns if one.title == sort), None)
    if column is None:
        return rows
    known = [row for row in rows if column.value(row) not in (None, "")]
    unknown = [row for row in rows if column.value(row) in (None, "")]
    return sorted(known, key=column.value, reverse=descending) + unknown


def _holds(spec: TableSpec, row: Any, wanted: str) -> bool:
    return any(wanted in column.cell(row).casefold() for column in spec.columns)


def numeric(column: TableColumn, rows: Sequence[AlertRow | PartitionRow | ProgramRow | SinkRow]) -> bool:
    """Whether the cells of a column stand to the right, and its largest come first: whether any of them is a number."""
    return any(isinstance(column.value(row), int | float) for row in rows)
