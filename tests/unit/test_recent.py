"""Who stays in memory, against what must hold whatever comes: nobody leaves who is not stored, and no more stay."""

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.core.recent import Recent


class One:
    def __init__(self, left: list["One"], *, used: bool = True, stored: bool = True) -> None:
        self.used, self.stored, self._left = used, stored, left

    def leave(self) -> None:
        self._left.append(self)


class Memory(RuleBasedStateMachine):
    @initialize(most=st.integers(1, 5))
    def begin(self, most: int) -> None:
        self.most, self.recent = most, Recent[One](most)
        self.here: list[One] = []
        self.left: list[One] = []

    @rule(stored=st.booleans())
    def comes(self, stored: bool) -> None:
        new = One(self.left)
        self.recent.add(new)
        assert new not in self.left
        self.here = [one for one in self.here if one not in self.left] + [new]
        new.stored = stored

    @precondition(lambda self: self.here)
    @rule(data=st.data(), stored=st.booleans())
    def is_used(self, data: st.DataObject, stored: bool) -> None:
        one = data.draw(st.sampled_from(self.here))
        one.used, one.stored = True, one.stored and stored

    @rule(data=st.data())
    def more_is_stored(self, data: st.DataObject) -> None:
        for one in self.here:
            one.stored = one.stored or data.draw(st.booleans())
        self.recent.more_stored()
        self.here = [one for one in self.here if one not in self.left]
        assert len(self.recent) <= max(self.most, sum(not one.stored for one in self.here))

    @invariant()
    def those_that_left_were_stored_and_left_once(self) -> None:
        left = getattr(self, "left", [])
        assert all(one.stored for one in left)
        assert len(set(left)) == len(left)
        assert len(getattr(self, "recent", ())) == len(getattr(self, "here", ()))

    @invariant()
    def there_are_no_more_than_wanted_unless_they_have_to_stay(self) -> None:
        here = getattr(self, "here", [])
        if len(here) > getattr(self, "most", 0):
            assert any(not one.stored for one in here)


TestMemory = Memory.TestCase


@given(most=st.integers(2, 30), new=st.integers(1, 100), data=st.data())
def test_who_is_used_all_the_time_stays(most: int, new: int, data: st.DataObject) -> None:
    left: list[One] = []
    recent: Recent[One] = Recent(most)
    busy = [One(left) for _ in range(data.draw(st.integers(1, most - 1)))]
    for one in busy:
        recent.add(one)
    once = [One(left, used=False) for _ in range(new)]
    for one in once:
        recent.add(one)
        for each in busy:
            each.used = True
    assert not set(left) & set(busy)
    assert len(recent) == min(most, len(busy) + new)


def test_when_nobody_can_leave_nobody_is_asked_again_until_more_is_stored() -> None:
    asked = []

    class Counting(One):
        @property
        def stored(self) -> bool:
            asked.append(self)
            return False

        @stored.setter
        def stored(self, value: bool) -> None: ...

    recent: Recent[One] = Recent(10)
    for _ in range(1000):
        recent.add(Counting([], used=False))
    assert len(recent) == 1000
    assert len(asked) <= 20
    recent.more_stored()
    assert len(asked) > 1000
