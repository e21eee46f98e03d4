"""The last writes of a program."""

import time

from app.runtime.flushes import KEPT, Flushes


def test_before_the_first_there_is_none() -> None:
    assert (Flushes().last, Flushes().mean_seconds) == (None, None)


def test_the_last_and_the_mean_of_the_last_ones() -> None:
    flushes, began = Flushes(), time.time()
    flushes.add(1, 1000.0)
    for seconds in (0.5, 1.5) * (KEPT // 2):
        flushes.add(7, seconds)
    assert flushes.last is not None
    assert (flushes.last.rows, flushes.last.seconds) == (7, 1.5)
    assert began <= flushes.last.at <= time.time()
    assert flushes.mean_seconds == 1.0
