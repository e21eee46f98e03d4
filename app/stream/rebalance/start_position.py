"""Where a partition must be read from: in, its committed offset and the ends of its log; out, a Position."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extent:
    """What there is of a partition: from `start` (first kept) to `end` (next written); and its committed offset."""

    start: int
    end: int
    committed: int | None = None
    metadata: str = ""  # committed beside the offset


@dataclass(frozen=True, slots=True)
class Position:
    """`offset` is read next; `committed` is what the group has committed (None: nothing yet)."""

    offset: int
    committed: int | None
    reset: bool = False  # the committed offset lies outside the log
    anew: bool = False  # the log is another than the log that was read before


def choose_position(committed: int | None, start: int, end: int) -> Position:
    """Choose the next offset of a partition whose log runs from `start` (first kept) to `end` (next written).

    Nothing committed: from the start. Committed before the start (retention has removed records): from the start.
    Committed after the end (the topic was made anew): from the start, and the old commit counts for nothing.
    """
    if committed is None or committed < 0:
        return Position(start, None)
    if committed > end:
        return Position(start, None, reset=True)
    if committed < start:
        return Position(start, committed, reset=True)
    return Position(committed, committed)
