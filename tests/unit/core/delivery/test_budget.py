"""So many messages in a sliding minute for each user."""

from app.core.delivery.budget import Budget


def test_the_minute_slides() -> None:
    budget = Budget(3, 60)
    assert [budget.spend("u", now) for now in (0.0, 10.0, 20.0, 30.0)] == [True, True, True, False]
    assert budget.spent("u", 59.9) == 3
    assert budget.spent("v", 59.9) == 0
    assert [budget.spend("u", now) for now in (60.0, 60.0, 70.0, 79.0, 80.0)] == [True, False, True, False, True]


def test_users_do_not_share_it_and_are_forgotten() -> None:
    budget = Budget(1, 60)
    for number in range(1000):
        assert budget.spend(f"u{number}", float(number))
        assert len(budget) <= 60
    assert budget.spend("u999", 1060.0)
    assert len(budget) == 1
