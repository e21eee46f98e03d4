"""When a batch may go straight into the table, and how seldom that goes wrong, whatever comes."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.batch.copy_policy import FIRST, MOST, CopyPolicy, PartitionEpoch, StagedRun, distinct
from app.core.model.records import Row

AT = datetime(2026, 5, 4, tzinfo=UTC)
ORIGIN = PartitionEpoch(3, 1)
FAILURE_PERIOD = 2 * FIRST + 1  # a failure, its staged batches, and as many that make it forgotten

batches = st.lists(st.booleans(), max_size=600)  # whether each is clean


def walk(outcomes: Sequence[bool]) -> list[StagedRun]:
    """What is known before each batch, and after the last."""
    runs = [StagedRun()]
    for clean in outcomes:
        runs.append(runs[-1].after(clean=clean))
    return runs


def failures(outcomes: Sequence[bool]) -> int:
    """How many batches go straight in and fail."""
    return sum(not clean and run.left == 0 for clean, run in zip(outcomes, walk(outcomes), strict=False))


@given(batches)
def test_nothing_goes_straight_in_before_a_batch_was_clean(outcomes: list[bool]) -> None:
    first = outcomes.index(True) if True in outcomes else len(outcomes)
    assert all(run.left for run in walk(outcomes)[: first + 1])


@given(batches)
def test_after_a_failure_as_many_in_a_row_must_be_clean_as_the_wait_says(outcomes: list[bool]) -> None:
    runs = walk(outcomes)
    for at, clean in enumerate(outcomes):
        if not clean and runs[at].left == 0:
            wait = runs[at + 1].wait
            assert FIRST <= wait <= MOST
            after = outcomes[at + 1 :]
            starts = [start for start in range(len(after) - wait + 1) if all(after[start : start + wait])]
            staged = starts[0] + wait if starts else len(after)
            assert all(run.left for run in runs[at + 1 : at + 1 + staged])
            if starts:
                assert runs[at + 1 + staged].left == 0


@given(batches)
def test_the_wait_doubles_while_failures_go_on_and_is_forgotten_when_they_do_not(outcomes: list[bool]) -> None:
    runs = walk(outcomes)
    for clean, before, after in zip(outcomes, runs, runs[1:], strict=False):
        if clean or before.left:
            assert after.wait == before.wait
        elif before.clean < before.wait:
            assert after.wait == min(2 * before.wait, MOST)
        else:
            assert after.wait == FIRST


@given(batches)
def test_failures_are_bounded_whatever_comes(outcomes: list[bool]) -> None:
    assert failures(outcomes) <= 2 + len(outcomes) / FAILURE_PERIOD


def test_failures_are_bounded_against_the_worst_stream_there_is() -> None:
    """Every stream of so many batches at once: the most failures that lead to each run, batch by batch."""
    most = {StagedRun(): 0}
    for count in range(1, 600):
        longer: dict[StagedRun, int] = {}
        for run, failed in most.items():
            for clean in (False, True):
                after = run.after(clean=clean)
                after = after._replace(clean=min(after.clean, MOST))  # more of them change nothing
                longer[after] = max(longer.get(after, 0), failed + (not clean and run.left == 0))
        most = longer
        assert max(most.values()) <= 2 + count / FAILURE_PERIOD


@pytest.mark.parametrize(("rows", "most_failures"), [(5000, 0), (500, 1), (100, 3)])
def test_a_stream_with_one_duplicate_in_a_hundred_rows_is_staged(rows: int, most_failures: int) -> None:
    chance = Random(1)
    outcomes = [chance.random() < 0.99**rows for _ in range(2000)]
    assert failures(outcomes) <= most_failures


def test_a_stream_with_a_duplicate_now_and_then_goes_straight_in() -> None:
    outcomes = [(number + 1) % 100 > 0 for number in range(10_000)]
    direct = sum(run.left == 0 for run in walk(outcomes)[:-1])
    assert direct > 0.9 * len(outcomes)


def policy_after(*answers: tuple[PartitionEpoch | None, bool]) -> CopyPolicy:
    policy = CopyPolicy()
    for origin, clean in answers:
        policy.answered(origin, clean=clean)
    return policy


def test_partitions_have_nothing_to_do_with_each_other() -> None:
    other = PartitionEpoch(4, 1)
    policy = policy_after((ORIGIN, True), (other, True), (other, False))
    assert (policy.goes_direct(ORIGIN), policy.goes_direct(other)) == (True, False)


def test_a_new_epoch_is_staged_again_and_forgives() -> None:
    policy = policy_after((ORIGIN, True), (ORIGIN, False))
    later = PartitionEpoch(3, 2)
    assert not policy.goes_direct(later)
    policy.answered(later, clean=True)
    assert policy.goes_direct(later)


def test_what_comes_late_of_an_epoch_that_is_over_says_nothing() -> None:
    later = PartitionEpoch(3, 2)
    policy = policy_after((ORIGIN, True), (later, True), (ORIGIN, False))
    assert policy.goes_direct(later)
    assert not policy.goes_direct(ORIGIN)


def test_rows_from_nowhere_known_are_staged() -> None:
    assert not policy_after((None, True)).goes_direct(None)


def row(sequence: int, device: str = "d1", user: str = "u1", at: datetime = AT, value: float = 1.0) -> Row:
    return (at, user, device, sequence, value)


keys = st.builds(
    row,
    st.integers(0, 3),
    st.sampled_from(["d1", "d2"]),
    st.sampled_from(["u1", "u2"]),
    st.sampled_from([AT, AT + timedelta(microseconds=1), AT.astimezone(timezone(timedelta(hours=2)))]),
    st.sampled_from([0.5, 0.5, 0.5, 1.5]),
)


@given(st.lists(keys, max_size=12))
def test_of_rows_with_one_key_the_first_stays_if_the_others_are_equal(rows: list[Row]) -> None:
    kept = distinct(rows)
    known: dict[tuple[object, ...], Row] = {}
    if any(known.setdefault(one[:4], one) != one for one in rows):
        assert kept is None
    else:
        assert kept is not None
        assert list(kept) == list(known.values())
        assert (kept is rows) == (len(kept) == len(rows))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: row(n),
        lambda n: row(n // 50, device=f"d{n % 50}"),
        lambda n: row(0, at=AT + timedelta(milliseconds=n)),
    ],
    ids=["one sequence", "a sequence for each device", "by time alone"],
)
def test_a_batch_without_repeats_is_not_copied(make: Callable[[int], Row]) -> None:
    rows = [make(number) for number in range(500)]
    assert distinct(rows) is rows
    assert distinct([*rows, rows[7]]) == rows
    assert distinct([*rows, (*rows[7][:4], 2.0)]) is None
