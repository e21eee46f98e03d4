"""How far a partition may be committed."""

from hypothesis import given
from hypothesis import strategies as st

from app.core.batch.commit_prefix import CommitPrefix


def test_nothing_is_committed_past_what_is_open() -> None:
    prefix = CommitPrefix()
    for offset in (5, 6, 9):  # a compacted topic has holes
        prefix.take(offset, float(offset))
    assert (prefix.position, prefix.oldest, len(prefix)) == (None, 5.0, 3)
    prefix.done(6)
    assert (prefix.position, prefix.oldest) == (None, 5.0)
    prefix.done(5)
    assert (prefix.position, prefix.oldest, len(prefix)) == (7, 9.0, 1)
    prefix.done(5)
    prefix.done(100)
    prefix.done(9)
    assert (prefix.position, prefix.oldest, len(prefix)) == (10, None, 0)


def test_what_is_read_again_is_open_again() -> None:
    prefix = CommitPrefix()
    for offset in range(4):
        prefix.take(offset, 0.0)
    prefix.done(0)
    prefix.done(2)
    for offset in range(1, 4):  # from the last commit
        prefix.take(offset, 0.0)
    prefix.done(1)
    assert prefix.position == 2
    prefix.done(2)
    prefix.done(3)
    assert prefix.position == 4


@given(st.permutations(range(12)))
def test_any_order_ends_at_the_end(order: list[int]) -> None:
    prefix = CommitPrefix()
    for offset in range(12):
        prefix.take(offset, 0.0)
    done: set[int] = set()
    for offset in order:
        prefix.done(offset)
        done.add(offset)
        wanted = next(n for n in range(13) if n not in done)
        assert (prefix.position or 0) == wanted
