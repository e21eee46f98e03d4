"""Counts over time -> lines of blocks for a terminal."""

from collections.abc import Iterator, Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"


def blocks(counts: Sequence[int]) -> str:
    """A character a count, the higher the more; 0 is blank, anything above 0 is seen, the most is the full block."""
    return next(iter(bars(counts, 1)))


def bars(counts: Sequence[int], height: int) -> Iterator[str]:
    """The counts as columns of `height` lines, the top line first."""
    steps, most = len(BLOCKS) - 1, max(counts, default=0)
    tall = [-(-count * steps * height // most) if most else 0 for count in counts]
    for level in reversed(range(height)):
        yield "".join(BLOCKS[min(max(one - level * steps, 0), steps)] for one in tall)
