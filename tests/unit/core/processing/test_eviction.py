"""Which devices stay in memory: none leaves before it is stored, no more stay than wanted, and each is found."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.core.processing.eviction import EvictionPool


class One:
    def __init__(self, left: list["One"], *, stored: bool = True, weight: int = 1) -> None:
        self.stored, self._left, self.weight = stored, left, weight

    def leave(self) -> None:
        self._left.append(self)


class Memory(RuleBasedStateMachine):
    @initialize(most=st.integers(1, 5))
    def begin(self, most: int) -> None:
        self.most, self.kept = most, EvictionPool[One](most)
        self.present: list[One] = []
        self.left: list[One] = []

    @rule(stored=st.booleans())
    def comes(self, stored: bool) -> None:
        new = One(self.left)
        self.kept.add(new)
        assert new not in self.left
        self.present = [one for one in self.present if one not in self.left] + [new]
        new.stored = stored

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def moves(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.present)).stored = False

    @rule(data=st.data())
    def more_is_stored(self, data: st.DataObject) -> None:
        for one in self.present:
            one.stored = one.stored or data.draw(st.booleans())
        self.kept.more_stored()
        self.present = [one for one in self.present if one not in self.left]
        assert len(self.kept) <= max(self.most, sum(not one.stored for one in self.present))

    @invariant()
    def those_that_left_were_stored_and_left_once(self) -> None:
        left = getattr(self, "left", [])
        assert all(one.stored for one in left)
        assert len(set(left)) == len(left)
        assert len(getattr(self, "kept", ())) == len(getattr(self, "present", ()))

    @invariant()
    def there_are_no_more_than_wanted_unless_they_have_to_stay(self) -> None:
        present = getattr(self, "present", [])
        if len(present) > getattr(self, "most", 0):
            assert any(not one.stored for one in present)


TestMemory = Memory.TestCase


def test_who_weighs_more_counts_for_more() -> None:
    left: list[One] = []
    kept = EvictionPool[One](10, lambda one: one.weight)
    all_of_them = [One(left) for _ in range(8)]
    for one in all_of_them:
        kept.add(one)
    heavy = One(left, weight=4)
    kept.add(heavy)
    assert len(left) == 2
    assert sum(one.weight for one in [*all_of_them, heavy] if one not in left) == 10


def test_others_leave_for_one_that_gets_heavier_and_it_alone_may_stay() -> None:
    left: list[One] = []
    kept = EvictionPool[One](10, lambda one: one.weight)
    all_of_them = [One(left) for _ in range(10)]
    for one in all_of_them:
        kept.add(one)
    heavy = all_of_them[3]
    for weight in (5, 12):
        kept.heavier(weight - heavy.weight)
        heavy.weight, heavy.stored = weight, False
        kept.more_stored()
        assert sum(one.weight for one in all_of_them if one not in left) <= max(10, weight)
    assert [one for one in all_of_them if one not in left] == [heavy]


@pytest.mark.parametrize(("most", "least"), [(1000, 1.0), (900, 0.75), (830, 0.6), (500, 0.15)])
def test_of_a_thousand_that_come_in_turn(most: int, least: float) -> None:
    """The share that is found; if the oldest left, it would be none."""

    class Device:
        stored = True

        def __init__(self, number: int) -> None:
            self.number = number

        def leave(self) -> None:
            there.remove(self.number)

    kept, there, found, rounds = EvictionPool[Device](most), set[int](), 0, 20
    for turn in range(rounds):
        for number in range(1000):
            if number in there:
                found += turn >= rounds // 2
            else:
                kept.add(Device(number))
                there.add(number)
    assert found / (1000 * rounds / 2) >= least


def test_when_nobody_can_leave_nobody_is_asked_again_until_more_is_stored() -> None:
    asked = []

    class Counting(One):
        @property
        def stored(self) -> bool:
            asked.append(self)
            return False

        @stored.setter
        def stored(self, value: bool) -> None: ...

    kept: EvictionPool[One] = EvictionPool(10)
    for _ in range(1000):
        kept.add(Counting([]))
    assert len(kept) == 1000
    assert len(asked) <= 10
    kept.more_stored()
    assert len(asked) > 1000
