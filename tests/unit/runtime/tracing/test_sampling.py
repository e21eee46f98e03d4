"""Head sampling takes the share it is given, however the messages come; the limit lets so many through a second."""

import random
from itertools import chain

import pytest

from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.metrics import ALWAYS_LIMITED
from app.runtime.tracing.sampling import AlwaysLimit, HeadSampling


@pytest.mark.parametrize("ratio", [0.001, 0.02, 0.5, 0.9])
def test_the_share_of_a_million_is_the_ratio(ratio: float) -> None:
    head = HeadSampling(ratio, draw=random.Random(1).random)
    found = sum(len(head.take(1000)) for _ in range(1000))
    spread = (1_000_000 * ratio * (1 - ratio)) ** 0.5
    assert abs(found - 1_000_000 * ratio) < 4 * spread


def test_gaps_are_those_of_single_draws() -> None:
    """Of every hundred messages none: as often as a draw for each would leave out all of them."""
    head = HeadSampling(0.01, draw=random.Random(2).random)
    empty = sum(not head.take(100) for _ in range(10_000)) / 10_000
    assert abs(empty - 0.99**100) < 0.02


def test_one_by_one_and_many_at_once_are_the_same() -> None:
    at_once, one_by_one = (HeadSampling(0.1, draw=random.Random(3).random) for _ in range(2))
    sizes = [1, 7, 0, 100, 3, 500]
    begins = [sum(sizes[:number]) for number in range(len(sizes))]
    found = [[begin + at for at in at_once.take(size)] for begin, size in zip(begins, sizes, strict=True)]
    assert list(chain(*found)) == [number for number in range(sum(sizes)) if one_by_one.next()]


@pytest.mark.parametrize(("ratio", "found"), [(0.0, []), (1.0, [0, 1, 2, 3, 4])])
def test_none_and_all(ratio: float, found: list[int]) -> None:
    head = HeadSampling(ratio)
    assert list(head.take(5)) == list(head.take(5)) == found
    assert head.next() is bool(found)


@pytest.mark.parametrize("ratio", [5e-324, 1e-18, 1 - 1e-16])
@pytest.mark.parametrize("drawn", [0.0, 1 - 2**-53])
def test_the_ends_of_both_ranges(ratio: float, drawn: float) -> None:
    HeadSampling(ratio, draw=lambda: drawn).take(3)


def test_the_sender_decides() -> None:
    head = HeadSampling(0.0)
    assert head.agrees(SpanContext(1 << 127, 1, 1))
    assert not HeadSampling(1.0).agrees(SpanContext(1, 1, 0))


def test_a_sampler_that_asks_no_parent_goes_by_the_trace_id() -> None:
    head = HeadSampling(0.25, parent_based=False)
    ids = random.Random(4)
    contexts = [SpanContext(ids.getrandbits(128), 1, number % 2) for number in range(10_000)]
    assert 2200 < sum(map(head.agrees, contexts)) < 2800
    assert all(map(HeadSampling(1.0, parent_based=False).agrees, contexts))
    assert not any(map(HeadSampling(0.0, parent_based=False).agrees, contexts))


def test_so_many_a_second_and_the_rest_is_counted() -> None:
    now = [0.0]
    limit = AlwaysLimit(3, lambda: now[0])
    before = ALWAYS_LIMITED._value.get()
    assert [limit.allows() for _ in range(5)] == [True] * 3 + [False] * 2
    assert ALWAYS_LIMITED._value.get() == before + 2
    now[0] = 1 / 3 + 1e-9
    assert [limit.allows(), limit.allows()] == [True, False]
    now[0] = 100.0
    assert [limit.allows() for _ in range(5)] == [True] * 3 + [False] * 2
    assert not AlwaysLimit(0).allows()
