"""Who decides that he is traced, and how often a second."""

from app.core.ingress.trace_budget import TraceBudget


def honoured(budget: TraceBudget, account: bytes, count: int, now: float) -> int:
    """How many of so many messages are."""
    return sum(budget.spend(account, now) for _ in range(count))


def test_so_many_a_second_and_anew_in_the_next() -> None:
    budget = TraceBudget(10)
    for now in (5.0, 6.0, 60.5):
        assert [honoured(budget, b"%d" % n, 1, now) for n in range(20)] == [1] * 10 + [0] * 10


def test_one_account_has_half_of_them_and_leaves_the_rest_to_others() -> None:
    budget = TraceBudget(10)
    assert honoured(budget, b"loud", 1_000, 5.0) == 5
    assert honoured(budget, b"quiet", 1, 5.9) == 1
    assert honoured(budget, b"other", 1_000, 5.9) == 4


def test_one_a_second_is_anybody_s_and_none_is_nobody_s() -> None:
    assert honoured(TraceBudget(1), b"u", 5, 1.0) == 1
    assert honoured(TraceBudget(0), b"u", 5, 1.0) == 0
