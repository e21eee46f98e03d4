"""The alert events that were expected and those that came -> the one beside the other, as a diff shows two files."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from app.backtest.expected import ExpectedEvent
from app.core.model.alert_event import AlertEvent

Sign = Literal[" ", "-", "+"]  # both; expected and not found; found and not expected
DiffLine = tuple[Sign, ExpectedEvent | None, AlertEvent | None]
COMPARED_MAX = 4_000_000  # pairs; a second


def difference(wanted: Sequence[ExpectedEvent], found: Sequence[AlertEvent]) -> list[DiffLine]:
    """The two sequences side by side, with as many pairs as possible in their order.

    Where more than COMPARED_MAX pairs would have to be looked at, what lies between equal beginnings and ends is given
    as wholly different.
    """
    head = _alike(zip(wanted, found, strict=False))
    rest = min(len(wanted), len(found)) - head
    tail = min(rest, _alike(zip(reversed(wanted), reversed(found), strict=False)))
    first: list[DiffLine] = [(" ", *pair) for pair in zip(wanted[:head], found[:head], strict=True)]
    ends = len(wanted) - tail, len(found) - tail
    last: list[DiffLine] = [(" ", *pair) for pair in zip(wanted[ends[0] :], found[ends[1] :], strict=True)]
    return [*first, *_aligned(wanted[head : ends[0]], found[head : ends[1]]), *last]


def _alike(pairs: Iterable[tuple[ExpectedEvent, AlertEvent]]) -> int:
    count = 0
    for one, event in pairs:
        if not one.is_met_by(event):
            break
        count += 1
    return count


def _aligned(wanted: Sequence[ExpectedEvent], found: Sequence[AlertEvent]) -> Iterator[DiffLine]:
    """The longest common subsequence, worked out from the end; ties name what is missing first."""
    rows, columns = len(wanted), len(found)
    if not rows or not columns or rows * columns > COMPARED_MAX:
        yield from (("-", one, None) for one in wanted)
        yield from (("+", None, event) for event in found)
        return
    met = [[one.is_met_by(event) for event in found] for one in wanted]
    longest = [[0] * (columns + 1) for _ in range(rows + 1)]
    for row in range(rows - 1, -1, -1):
        for column in range(columns - 1, -1, -1):
            skipping = max(longest[row + 1][column], longest[row][column + 1])
            longest[row][column] = longest[row + 1][column + 1] + 1 if met[row][column] else skipping
    row = column = 0
    while row < rows or column < columns:
        if row < rows and column < columns and met[row][column]:
            yield " ", wanted[row], found[column]
            row, column = row + 1, column + 1
        elif column == columns or (row < rows and longest[row + 1][column] >= longest[row][column + 1]):
            yield "-", wanted[row], None
            row += 1
        else:
            yield "+", None, found[column]
            column += 1
