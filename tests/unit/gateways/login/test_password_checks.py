"""Passwords are checked in turn, by account, and only while somebody wants to know."""

import asyncio
import threading

import bcrypt
import pytest

from app.gateways.login.password_checks import LANE_MAX, NOBODY, PasswordChecks, matches

HASH = bcrypt.hashpw(b"a good password", bcrypt.gensalt(4)).decode()


def wanted() -> bool:
    return True


async def test_right_and_wrong() -> None:
    checks = PasswordChecks()
    try:
        assert await checks.check("alice", "a good password", HASH, wanted) is True
        for wrong in ("another password", "", "a good password\0", "x" * 73, "\ud800"):
            assert await checks.check("alice", wrong, HASH, wanted) is False, wrong
        assert await checks.check("alice", "a good password", "no hash at all", wanted) is False
    finally:
        checks.close()


def test_nobody_has_the_hash_of_a_name_that_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert NOBODY.startswith("$2a$10$")
    looked_at: list[bytes] = []
    real = bcrypt.checkpw

    def seen(given: bytes, hashed: bytes) -> bool:
        looked_at.append(hashed)
        return real(given, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", seen)
    assert not matches(b"", NOBODY.encode())
    assert looked_at == [NOBODY.encode()], "an unknown account takes as long as a wrong password"
    assert bcrypt.checkpw(b"", NOBODY.encode()) is False, "and is a hash, which is no error at once"


async def test_guesses_on_one_account_delay_another_by_one_check_at_most() -> None:
    order: list[bytes] = []
    free = threading.Semaphore(0)

    def check(password: bytes, hashed: bytes) -> bool:
        free.acquire()
        order.append(password)
        return False

    checks = PasswordChecks(check, threads=1)
    guesses = [asyncio.create_task(checks.check("alice", f"guess {n}", HASH, wanted)) for n in range(20)]
    await asyncio.sleep(0)
    honest = asyncio.create_task(checks.check("bob", "bob's", HASH, wanted))
    await asyncio.sleep(0)
    free.release(21)
    await asyncio.gather(*guesses, honest)
    checks.close()
    assert order.index(b"bob's") <= 2


async def test_too_many_for_one_account_are_not_looked_at() -> None:
    free = threading.Semaphore(0)
    checks = PasswordChecks(lambda password, hashed: free.acquire() and False, threads=1)
    first = [asyncio.create_task(checks.check("alice", f"{n}", HASH, wanted)) for n in range(LANE_MAX + 1)]
    await asyncio.sleep(0.01)
    assert await checks.check("alice", "one more", HASH, wanted) is None
    other = asyncio.create_task(checks.check("bob", "bob's", HASH, wanted))
    await asyncio.sleep(0.01)
    free.release(LANE_MAX + 2)
    assert await asyncio.gather(*first, other) == [False] * (LANE_MAX + 2)
    checks.close()


async def test_what_nobody_wants_to_know_any_more_costs_nothing() -> None:
    checked: list[bytes] = []
    free = threading.Semaphore(0)

    def check(password: bytes, hashed: bytes) -> bool:
        free.acquire()
        checked.append(password)
        return False

    checks = PasswordChecks(check, threads=1)
    failures: list[int] = []
    tasks = [asyncio.create_task(checks.check("alice", f"{n}", HASH, lambda: len(failures) < 2)) for n in range(10)]
    gone = asyncio.create_task(checks.check("alice", "gone", HASH, wanted))
    await asyncio.sleep(0.01)
    gone.cancel()
    free.release(1)
    assert await tasks[0] is False
    failures += [1, 2]
    free.release(20)
    rest = await asyncio.gather(*tasks[1:])
    checks.close()
    assert len(checked) <= 2
    assert rest.count(None) >= 8
