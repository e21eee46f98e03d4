"""No user and no service takes up all of the sending."""

from app.notify.channels.shares import Shares


def test_a_lane_waits_for_what_has_its_share_and_no_other_lane_does() -> None:
    shares = Shares(2)
    assert [shares.enter(f"l{n}", "user ann", f"url {n}") for n in range(4)] == [True, True, False, False]
    assert shares.enter("m", "user bob", "url 9")
    assert shares.leave("user ann", "url 0") == ["l2", "l3"]
    assert [shares.enter(lane, "user ann", f"url {lane}") for lane in ("l2", "l3")] == [True, False]
    assert shares.leave("user bob", "url 9") == []
    assert shares.leave("user ann", "url 1") == ["l3"]


def test_one_service_of_many_users() -> None:
    shares = Shares(1)
    assert [shares.enter(user, f"user {user}", "url same") for user in ("ann", "bob", "eve")] == [True, False, False]
    assert shares.leave("user ann", "url same") == ["bob", "eve"]
