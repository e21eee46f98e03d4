"""How fast credentials may be tried, and whom that does not hold up."""

import pytest

from app.core.ingress import login_pace
from app.core.ingress.login_pace import GUESSED_SECONDS, PAIR_FAILURES, PAIR_SECONDS, PEER_FAILURES, LoginPace


def guesses(pace: LoginPace, peer: str, account: str, count: int, now: float) -> int:
    """How many of so many wrong passwords may be tried at once."""
    tried = 0
    for _ in range(count):
        if not pace.wait(peer, account, now):
            pace.failed(peer, account, now)
            tried += 1
    return tried


def test_a_few_guesses_and_then_one_now_and_then() -> None:
    pace = LoginPace()
    assert guesses(pace, "10.0.0.1", "alice", 100, 1000.0) == PAIR_FAILURES
    assert 0 < pace.wait("10.0.0.1", "alice", 1000.0) <= PAIR_SECONDS
    assert guesses(pace, "10.0.0.1", "alice", 100, 1000.0 + PAIR_SECONDS - 1) == 0
    assert guesses(pace, "10.0.0.1", "alice", 100, 1000.1 + PAIR_SECONDS) == 1
    assert guesses(pace, "10.0.0.1", "alice", 100, 9000.0) == PAIR_FAILURES, "no more than that is saved"


def test_an_account_is_not_locked_for_others() -> None:
    pace = LoginPace()
    pace.succeeded("192.0.2.1", "alice")
    for number in range(500):
        guesses(pace, f"10.0.{number}.1", "alice", 10, 0.0)
    assert pace.wait("192.0.2.7", "alice", 0.0) == 0.0
    assert pace.wait("10.0.0.1", "bob", 0.0) == 0.0
    assert guesses(pace, "192.0.2.1", "alice", 100, 0.0) == PAIR_FAILURES, "who has been in may mistype as ever"


def test_an_account_that_many_guess_gives_each_of_them_one_try_a_minute() -> None:
    pace = LoginPace()
    tried = [guesses(pace, f"10.0.{number}.1", "alice", 10, 0.0) for number in range(1000)]
    assert tried[:20] == [PAIR_FAILURES] * 20
    assert tried[20:] == [1] * 980
    assert guesses(pace, "192.0.2.7", "alice", 100, 0.0) == 1
    assert guesses(pace, "192.0.2.7", "alice", 100, GUESSED_SECONDS - 0.1) == 0
    assert guesses(pace, "192.0.2.7", "alice", 100, GUESSED_SECONDS) == 1
    assert guesses(pace, "192.0.2.7", "bob", 100, 900.0) == PAIR_FAILURES, "of this account alone"
    assert guesses(pace, "192.0.2.8", "alice", 100, 5000.0) == PAIR_FAILURES, "and not for ever"


def test_one_address_cannot_make_an_account_one_that_many_guess() -> None:
    pace = LoginPace()
    for tick in range(36_000):
        guesses(pace, "10.0.0.1", "alice", 2, tick / 10)
    assert guesses(pace, "192.0.2.7", "alice", 100, 3600.0) == PAIR_FAILURES


def test_who_tries_many_accounts_waits_for_each_but_nobody_who_has_been_in_does() -> None:
    pace = LoginPace()
    pace.succeeded("10.0.0.1", "honest")
    tried = sum(guesses(pace, "10.0.0.1", f"user-{number}", 1, 0.0) for number in range(200))
    assert tried == PEER_FAILURES
    assert pace.wait("10.0.0.1", "new", 0.0) > 0.0
    assert pace.wait("10.0.0.1", "honest", 0.0) == 0.0
    assert pace.is_known("10.0.0.1", "honest")
    assert not pace.is_known("10.0.0.2", "honest")
    assert guesses(pace, "10.0.0.1", "honest", 100, 0.0) == PAIR_FAILURES, "to be known is no leave to guess"


def test_a_peer_that_nobody_knows_may_be_many() -> None:
    pace = LoginPace()
    assert sum(guesses(pace, "", f"user-{number}", 1, 0.0) for number in range(200)) == 200
    assert guesses(pace, "", "alice", 100, 0.0) == PAIR_FAILURES


def test_wrong_tokens_hold_up_no_password() -> None:
    pace = LoginPace()
    waits = [pace.wait_after_token("10.0.0.1", 0.0) for _ in range(PEER_FAILURES + 5)]
    assert [wait > 0 for wait in waits] == [False] * PEER_FAILURES + [True] * 5
    assert pace.wait("10.0.0.1", "alice", 0.0) == 0.0
    assert pace.wait_after_token("10.0.0.1", 1e6) == 0.0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_pace, "MOST", 100)
    pace = LoginPace()
    for number in range(1000):
        pace.failed(f"peer-{number}", "alice", 0.0)
        pace.succeeded(f"peer-{number}", "alice")
        pace.wait_after_token(f"peer-{number}", 0.0)
        pace.failed(f"peer-{number}", f"account-{number}", 0.0)
    kept = (pace._accounts.full_at, pace._pairs.full_at, pace._peers.full_at, pace._tokens.full_at, pace._known)
    assert [len(one) for one in kept] == [100] * 5
