"""Memory for large frames: never more than there is, owners in turn, and whoever has it can go on."""

import random

from app.gateways.quic.reserve import Claim, Reserve


def test_of_several_owners_who_asks_first_has_it_first() -> None:
    woken: list[str] = []
    reserve = Reserve(10)
    first = reserve.claim("first", 6, lambda: woken.append("first"))
    second = reserve.claim("second", 6, lambda: woken.append("second"))
    third = reserve.claim("third", 4, lambda: woken.append("third"))
    assert [one.granted for one in (first, second, third)] == [True, False, False], "4 would fit, and is behind 6"
    reserve.give(first)
    assert woken == ["second", "third"]
    assert second.granted
    assert third.granted


def test_who_gives_up_makes_room_for_who_is_behind() -> None:
    woken: list[str] = []
    reserve = Reserve(10)
    reserve.claim("first", 6, lambda: None)
    large = reserve.claim("second", 10, lambda: woken.append("large"))
    reserve.claim("third", 3, lambda: woken.append("small"))
    reserve.give(large)
    assert woken == ["small"]


def test_who_only_begins_frames_holds_up_himself() -> None:
    reserve = Reserve(100)
    hostile = [reserve.claim("mallory", 20, lambda: None) for _ in range(50)]
    assert sum(one.granted for one in hostile) == 2, "half of it, as long as nobody else wants it"
    own = [reserve.claim("alice", 20, lambda: None) for _ in range(2)]
    assert [one.granted for one in own] == [True, False], "and a quarter then"
    assert reserve.claim("bob", 20, lambda: None).granted
    reserve.give(hostile[0])
    assert sum(one.granted for one in hostile) == 2, "one reservation of the two was given back, and no other granted"
    assert not own[1].granted
    reserve.give(own[0])
    assert own[1].granted


def test_owners_have_it_in_turn() -> None:
    order: list[str] = []
    reserve = Reserve(40)
    held = reserve.claim("z", 40, lambda: None)
    for owner in "aaab":
        reserve.claim(owner, 10, lambda owner=owner: order.append(owner))  # type: ignore[misc]
    reserve.give(held)
    assert order[:2] == ["a", "b"]


def test_never_more_is_granted_than_there_is_and_all_get_it_in_the_end() -> None:
    chance, reserve = random.Random(7), Reserve(100)
    held: list[Claim] = []
    waiting: list[Claim] = []
    for _ in range(2000):
        if chance.random() < 0.5 and len(held) + len(waiting) < 50:
            made = reserve.claim(chance.choice("abc"), chance.randrange(1, 101), lambda: None)
            (held if made.granted else waiting).append(made)
        elif held:
            reserve.give(held.pop(chance.randrange(len(held))))
        if waiting and chance.random() < 0.1:
            reserve.give(waiting.pop(chance.randrange(len(waiting))))
        held += [one for one in waiting if one.granted]
        waiting = [one for one in waiting if not one.granted]
        assert sum(one.size for one in held) <= 100
        assert held or not waiting
    while held:
        reserve.give(held.pop())
        held += [one for one in waiting if one.granted]
        waiting = [one for one in waiting if not one.granted]
    assert not waiting
    assert reserve.claim("a", 100, lambda: None).granted
