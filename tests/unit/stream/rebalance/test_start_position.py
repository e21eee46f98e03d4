"""Where a partition is read from, for every place its committed offset can have in its log."""

import pytest

from app.stream.rebalance.start_position import Position, choose_position


@pytest.mark.parametrize(
    ("committed", "start", "end", "expected"),
    [
        (None, 0, 0, Position(0, None)),
        (None, 40, 90, Position(40, None)),
        (-1, 40, 90, Position(40, None)),  # what some brokers answer for nothing
        (0, 0, 90, Position(0, 0)),
        (40, 40, 90, Position(40, 40)),
        (60, 40, 90, Position(60, 60)),
        (90, 40, 90, Position(90, 90)),  # everything was read
        (39, 40, 90, Position(40, 39, reset=True)),  # retention has removed unread records
        (0, 40, 90, Position(40, 0, reset=True)),
        (91, 40, 90, Position(40, None, reset=True)),  # the topic was made anew
        (5, 0, 0, Position(0, None, reset=True)),
    ],
)
def test_position(committed: int | None, start: int, end: int, expected: Position) -> None:
    assert choose_position(committed, start, end) == expected
