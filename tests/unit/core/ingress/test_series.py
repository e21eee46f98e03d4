"""Series of accounts: known series always come in, new series up to the limit, and memory is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from app.core.ingress.series import Series


def names(*numbers: int) -> list[bytes]:
    return [b"iot/n/%d/telemetry" % number for number in numbers]


def test_new_ones_over_the_limit_are_reported_and_known_ones_never() -> None:
    series = Series(limit=3, most=100, seconds=60)
    assert series.see("a", names(1, 2, 1), 0).over == frozenset()
    found = series.see("a", names(4, 5, 1, 2, 6, 4), 0)
    assert found.over == {1, 4}
    assert series.see("a", names(1, 2, 4), 0).over == frozenset()
    assert series.see("b", names(5), 0).over == frozenset(), "the limit is of each account"
    assert series.count == 4


def test_who_comes_near_the_limit_is_reported_once() -> None:
    series = Series(limit=10, most=100, seconds=60)
    assert not series.see("a", names(*range(8)), 0).warn
    assert series.see("a", names(8), 0).warn
    assert not series.see("a", names(9), 0).warn


def test_what_is_not_seen_for_long_makes_room() -> None:
    series = Series(limit=2, most=100, seconds=60)
    series.see("a", names(1, 2), 0)
    series.see("a", names(1), 61)
    assert series.see("a", names(3), 62).over == {0}, "2 may come again in this period"
    series.see("a", names(1), 122)
    assert series.see("a", names(3), 123).over == frozenset()
    assert series.count == 2


def test_accounts_that_are_gone_are_forgotten() -> None:
    series = Series(limit=2, most=100, seconds=60)
    for number in range(50):
        series.see(f"a{number}", names(1), 0)
    for moment in (61, 122):
        series.see("b", names(1), moment)
    assert series.count == 1
    assert series.top(5) == [("b", 1)]


def test_beyond_what_is_remembered_all_come_in() -> None:
    series = Series(limit=10, most=5, seconds=60)
    assert series.see("a", names(*range(8)), 0).untracked == 3
    assert series.see("b", names(1), 0).untracked == 1
    assert series.see("b", names(1), 0).over == frozenset()
    assert series.count == 5


def test_those_with_most_are_named() -> None:
    series = Series(limit=10, most=100, seconds=60)
    for account, count in (("few", 1), ("most", 5), ("some", 3)):
        series.see(account, names(*range(count)), 0)
    assert series.top(2) == [("most", 5), ("some", 3)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 30), max_size=8), st.floats(0, 30))))
def test_the_count_is_that_of_what_is_remembered(batches: list[tuple[str, list[int], float]]) -> None:
    series, now = Series(limit=12, most=20, seconds=60), 0.0
    for account, numbers, wait in batches:
        now += wait
        series.see(account, names(*numbers), now)
        sizes = dict(series.top(9))
        assert series.count == sum(sizes.values()) <= 20
        assert all(size <= 12 for size in sizes.values())
