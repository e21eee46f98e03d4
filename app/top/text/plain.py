"""A Snapshot without a screen: one line for each interval, or everything once, or JSON."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from app.top.model.snapshot import Snapshot
from app.top.text import columns, headline

WIDTH = 120


def line(snapshot: Snapshot) -> str:
    """One line: the time of day, the totals, the records that the books lack, and the addresses that are down."""
    parts = [*headline.pieces(snapshot), headline.books(snapshot)[-1], *headline.troubles(snapshot)]
    return headline.GAP.join([_clock(snapshot), *map(str, parts)])


def page(snapshot: Snapshot, width: int = WIDTH) -> str:
    """Several lines: the totals, and every table that has rows, in `width` characters."""
    lines = [_clock(snapshot) + (f"{headline.GAP}group {snapshot.group}" if snapshot.group else "")]
    lines += [
        headline.GAP.join(map(str, part)) for head in headline.heads(snapshot) for part in headline.packed(head, width)
    ]
    for spec in columns.SPECS:
        if spec.rows(snapshot):
            lines += ["", *_table(spec, snapshot, width)]
    return "\n".join(lines)


def as_json(snapshot: Snapshot) -> str:
    """The snapshot as one line of JSON; a figure that is not known is null."""
    content: dict[str, Any] = msgspec.to_builtins(snapshot)
    for row, one in zip(content["partitions"], snapshot.partitions, strict=True):
        row["difference"] = one.difference
    for row, sink in zip(content["sinks"], snapshot.sinks, strict=True):
        row["difference"] = sink.difference
    return msgspec.json.encode(content).decode()


def _table(spec: columns.TableSpec, snapshot: Snapshot, width: int) -> Iterator[str]:
    rows, shown = spec.rows(snapshot), columns.shown(spec, width)
    cells = [[column.cell(row) for column in shown] for row in rows]
    widths = [max(len(column.title), *(len(row[n]) for row in cells)) for n, column in enumerate(shown)]
    right = [columns.numeric(column, rows) for column in shown]
    for row in [[column.title for column in shown], *cells]:
        aligned = (
            text.rjust(wide) if numbers else text.ljust(wide)
            for text, wide, numbers in zip(row, widths, right, strict=True)
        )
        yield headline.GAP.join(aligned).rstrip()


def _clock(snapshot: Snapshot) -> str:
    return time.strftime("%H:%M:%S", time.localtime(snapshot.at))
