"""Lines of a stream until they are settled, in whatever order that happens."""

import random

import pytest

from app.client.lines.open_lines import OpenLines
from app.client.lines.source import Line


def line(number: int) -> Line:
    return Line(number, number * 10, number * 10 + 10, b"")


def test_the_first_that_is_open_is_known() -> None:
    lines = OpenLines()
    assert lines.first is None
    for number in (3, 5, 6, 9):
        lines.put(line(number))
    lines.settle(1, 2)
    assert lines.first == line(3)
    assert (lines.at(0), lines.at(3)) == (line(3), line(9))
    for place in (1, 2):
        with pytest.raises(LookupError):
            lines.at(place)
    lines.settle(0, 1)
    assert lines.first == line(9)
    assert lines.at(3) == line(9)
    with pytest.raises(LookupError):
        lines.at(0)
    lines.settle(3, 1)
    assert (lines.first, len(lines)) == (None, 0)
    lines.put(line(11))
    assert lines.at(4) == line(11)


def test_in_any_order_nothing_open_is_passed() -> None:
    for seed in range(100):
        chance, lines, opened, put = random.Random(seed), OpenLines(), set[int](), 0
        for _ in range(300):
            if chance.random() < 0.5:
                lines.put(line(put))
                opened.add(put)
                put += 1
            elif opened:
                one = chance.choice(sorted(opened))
                lines.settle(one, 1)
                opened.remove(one)
            assert (lines.first.number if lines.first else None) == min(opened, default=None)
