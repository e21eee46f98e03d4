"""Which of several configurations in a batch are written."""

from datetime import UTC, datetime, timedelta

import pytest

from app.postgres.store.config_edits import newest

START = datetime(2026, 11, 21, tzinfo=UTC)
Edit = tuple[object, ...]


def edit(
    offset: int,
    user: str = "u",
    rules: str | None = "[]",
    windows: str | None = None,
    *,
    live: bool = True,
    at: int = 0,
) -> Edit:
    return (user, rules, windows, START + timedelta(seconds=at or offset), 3, offset, live)


def test_of_those_of_a_user_the_last_one_is_written() -> None:
    edits = [edit(n, f"u{n % 2}") for n in range(1000)]
    assert newest(edits) == edits[-2:]
    assert newest([]) == []


@pytest.mark.parametrize(
    "second",
    [
        edit(2, "other"),
        edit(2, rules=None, windows="[]"),  # leaves the rules of the first
        edit(2, live=False),
        edit(2, at=-5),  # by a clock that was set back: it may be left out, and the first not
    ],
)
def test_one_of_which_something_may_be_left_is_written_too(second: Edit) -> None:
    assert newest([edit(1), second]) == [edit(1), second]


def test_a_later_one_with_more_in_it_covers_the_earlier() -> None:
    both = edit(3, windows="[]")
    assert newest([edit(1), edit(2, rules=None, windows="[]"), both]) == [both]
