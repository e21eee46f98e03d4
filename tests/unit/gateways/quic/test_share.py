"""What one connection may have of memory and connections, and in which order connections of a crowded account go on."""

from app.gateways.quic.share import AHEAD_BYTES, AHEAD_LEAST, AHEAD_MOST, Crowd, Share
from app.ports import Account

A, B = Account("a"), Account("b")


def test_windows_shrink_as_connections_come() -> None:
    share = Share(2000, 500)
    assert share.window == AHEAD_MOST
    for share.open in (1, 64, 100, 1000, 2000):
        assert AHEAD_LEAST <= share.window <= AHEAD_MOST
        assert share.window * share.open <= max(AHEAD_BYTES, AHEAD_LEAST * share.open)
    assert share.window == AHEAD_LEAST
    assert share.full


def test_an_account_has_so_many_connections_and_no_more() -> None:
    share = Share(10, 2)
    assert [share.joined("a") for _ in range(3)] == [True, True, False]
    assert share.joined("b")
    share.left("a")
    assert share.joined("a")
    assert not share.joined("a")
    for _ in range(2):
        share.left("a")
    share.left("b")
    assert not share._accounts, "nothing stays in memory of an account that is gone"


def test_connections_of_a_crowded_account_go_on_in_turns() -> None:
    crowded, went_on = {A.user_id}, list[str]()
    crowd = Crowd(lambda account: account.user_id in crowded)

    def one(name: str) -> None:
        went_on.append(name)
        if name == "second":
            crowded.add("a")
            crowd.wait(A, turns["second"])

    turns = {name: (lambda name=name: one(name)) for name in ("first", "second", "third")}
    for turn in turns.values():
        crowd.wait(A, turn)
    crowd.wait(A, turns["first"])
    crowd.wake(A)
    assert went_on == []
    crowded.clear()
    crowd.wake(A)
    assert went_on == ["first", "second"]
    crowded.clear()
    crowd.wake(A)
    assert went_on == ["first", "second", "third", "second"]
    crowded.clear()
    crowd.wake(B)
    assert len(went_on) == 4
