"""Who is let in, for how long, what an outage changes, and whom somebody else's guesses do not hold up."""

import asyncio
import time
from collections import Counter

import bcrypt
import pytest

from app.core.ingress.login_pace import PAIR_FAILURES, LoginPace
from app.core.routing.publish_rules import OF_DEVICES
from app.core.routing.tokens import digest
from app.errors import TransientError
from app.gateways.login.counted import CountedAccounts
from app.gateways.login.logins import OUTAGE_SECONDS, WRONG_SECONDS, Logins
from app.gateways.login.password_checks import NOBODY, PasswordChecks, matches
from app.ports import Account, AccountRow, Refusal

CACHE = 300.0
PASSWORD = "a good password"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
TOKEN, OTHER = "iots_" + "a" * 43, "iots_" + "b" * 43
HERE, THERE = "192.0.2.1", "198.51.100.7"
BAD, SLOWED, UNAVAILABLE = Refusal.BAD_CREDENTIALS, Refusal.SLOWED_DOWN, Refusal.UNAVAILABLE


class Rows:
    """app.ports.AccountRows in memory; `away` for an outage."""

    def __init__(self) -> None:
        self.names: dict[str, AccountRow] = {}
        self.tokens: dict[bytes, AccountRow] = {}
        self.asked: Counter[str] = Counter()
        self.away = False
        self.hangs = False

    @property
    def answers(self) -> bool:
        """As the port says."""
        return not self.away

    async def named(self, username: str) -> AccountRow | None:
        """As the port says."""
        await self._ask(username)
        return self.names.get(username)

    async def of_token(self, digest: bytes) -> AccountRow | None:
        """As the port says."""
        await self._ask("token")
        return self.tokens.get(digest)

    async def close(self) -> None:
        """As the port says."""

    async def _ask(self, what: str) -> None:
        self.asked[what] += 1
        await asyncio.sleep(3600 if self.hangs else 0)
        if self.away:
            raise TransientError("away")


class World:
    """Logins on such rows, a clock turned by hand, and a count of passwords that were looked at."""

    def __init__(self, anonymous: str | None = None) -> None:
        self.rows, self.now, self.checked = Rows(), 1000.0, 0
        self.hashes: list[str] = []
        checks = PasswordChecks(self._check)
        self.logins = Logins(self.rows, CACHE, LoginPace(), anonymous, checks, lambda: self.now)
        for name in ("alice", "bob"):
            self.rows.names[name] = AccountRow(Account(name), HASH, OF_DEVICES)
        self.rows.tokens[digest(TOKEN)] = AccountRow(Account("alice", "truck", rules=OF_DEVICES), HASH, OF_DEVICES)

    def _check(self, password: bytes, hashed: bytes) -> bool:
        self.checked += 1
        self.hashes.append(hashed.decode())
        return hashed != NOBODY.encode() and matches(password, hashed)  # 60 ms for nothing

    async def password(self, user: str = "alice", password: str = PASSWORD, peer: str = HERE) -> Account | Refusal:
        return await self.logins.by_password(user, password, peer)


@pytest.fixture
def world() -> World:
    return World()


async def test_right_and_wrong_credentials(world: World) -> None:
    assert await world.password() == Account("alice")
    assert await world.password(password="another password") is BAD
    assert await world.password("nobody") is BAD
    for name in ("", "+", "a/b", "\0", "x" * 300, "\ud800"):
        assert await world.password(name) is BAD, name
    found = await world.logins.by_token(TOKEN, HERE)
    assert isinstance(found, Account)
    assert (found.user_id, found.device_id) == ("alice", "truck")
    for token in (OTHER, "", "iots_", TOKEN + "a", "é"):
        assert await world.logins.by_token(token, HERE) is BAD, token


async def test_an_unknown_name_takes_as_long_as_a_wrong_password(world: World) -> None:
    await world.password("nobody")
    assert world.hashes == [NOBODY]


async def test_what_was_right_is_not_asked_again_for_a_while(world: World) -> None:
    for _ in range(50):
        assert await world.password() == Account("alice")
    assert (world.rows.asked["alice"], world.checked) == (1, 1)
    world.now += CACHE + 1
    assert await world.password() == Account("alice")
    assert (world.rows.asked["alice"], world.checked) == (2, 1), (
        "looked up, and no password checked: its hash is the same"
    )


async def test_many_at_once_are_one_question(world: World) -> None:
    found = await asyncio.gather(*(world.password() for _ in range(100)))
    assert found == [Account("alice")] * 100
    assert (world.rows.asked["alice"], world.checked) == (1, 1)


async def test_one_that_goes_away_takes_nobody_along(world: World) -> None:
    tasks = [asyncio.create_task(world.password()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [Account("alice")] * 2


async def test_a_removed_account_and_a_revoked_token_count_no_more_after_the_cache(world: World) -> None:
    await world.password()
    await world.logins.by_token(TOKEN, HERE)
    world.rows.names.clear()
    world.rows.tokens.clear()
    assert await world.password() == Account("alice")
    world.now += CACHE
    assert await world.password() is BAD
    assert await world.logins.by_token(TOKEN, HERE) is BAD


async def test_a_changed_password_counts_after_the_cache(world: World) -> None:
    await world.password()
    new = bcrypt.hashpw(b"a new password", bcrypt.gensalt(4)).decode()
    world.rows.names["alice"] = AccountRow(Account("alice"), new, OF_DEVICES)
    world.now += CACHE
    assert await world.password() is BAD
    assert await world.password(password="a new password") == Account("alice")


async def test_a_token_ends(world: World) -> None:
    world.rows.tokens[digest(OTHER)] = AccountRow(Account("alice"), HASH, OF_DEVICES, ends=time.time() - 1)
    assert await world.logins.by_token(OTHER, HERE) is BAD
    world.now += WRONG_SECONDS
    world.rows.tokens[digest(OTHER)] = AccountRow(Account("alice"), HASH, OF_DEVICES, ends=time.time() + 60)
    assert await world.logins.by_token(OTHER, HERE) == Account("alice")


@pytest.mark.parametrize("away", [False, True])
async def test_a_token_ends_while_it_is_remembered_and_in_an_outage(away: bool, world: World) -> None:
    world.rows.tokens[digest(OTHER)] = AccountRow(Account("alice"), HASH, OF_DEVICES, ends=time.time() + 0.1)
    assert await world.logins.by_token(OTHER, HERE) == Account("alice")
    await asyncio.sleep(0.11)
    if away:
        world.rows.away = True
        world.now += CACHE + 1
    assert await world.logins.by_token(OTHER, HERE) is BAD


async def test_who_names_many_devices_makes_nobody_else_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.gateways.login.logins.REMEMBERED", 10)
    await world.password("bob")
    for number in range(50):
        found = await world.logins.by_certificate("alice", f"d{number}", HERE)
        assert isinstance(found, Account)
        assert found.device_id == f"d{number}"
    world.rows.away = True
    world.now += CACHE + 1
    assert await world.password("bob") == Account("bob")


async def test_a_certificate_speaks_for_its_account_or_its_device(world: World) -> None:
    by = world.logins.by_certificate
    assert await by("alice", None, HERE) == Account("alice")
    truck = await by("alice", "truck", HERE)
    assert isinstance(truck, Account)
    assert truck.may_publish("users/alice/devices/truck/telemetry")
    assert not truck.may_publish("users/alice/devices/car/telemetry")
    assert not truck.may_publish("users/alice/config")
    world.rows.names["key"] = AccountRow(Account("alice", "truck", rules=OF_DEVICES), HASH, OF_DEVICES)
    assert isinstance(await by("key", "truck", HERE), Account)
    assert await by("key", "car", HERE) is BAD
    for name in ("nobody", "", "a/b", "\0"):
        assert await by(name, None, HERE) is BAD, name
    assert world.checked == 0


async def test_nobody_is_anonymous_but_the_account_that_is_named(world: World) -> None:
    assert await world.logins.anonymous(HERE) is BAD
    assert await World("alice").logins.anonymous(HERE) == Account("alice")
    assert await World("nobody").logins.anonymous(HERE) is BAD


async def test_while_the_table_is_away_who_was_in_is_in_for_an_hour_and_nobody_else_learns_anything(
    world: World,
) -> None:
    await world.password()
    await world.logins.by_token(TOKEN, HERE)
    await world.logins.by_certificate("alice", None, HERE)
    world.rows.away = True
    for passed in (1.0, CACHE + 1, OUTAGE_SECONDS - 1):
        world.now = 1000.0 + passed
        assert await world.password() == Account("alice"), passed
        assert isinstance(await world.logins.by_token(TOKEN, HERE), Account)
        assert isinstance(await world.logins.by_certificate("alice", None, HERE), Account)
    assert await world.password("bob") is UNAVAILABLE
    assert await world.password(password="wrong password") is UNAVAILABLE, "who can say?"
    assert await world.logins.by_token(OTHER, HERE) is UNAVAILABLE
    assert await world.logins.by_certificate("bob", None, HERE) is UNAVAILABLE
    assert not world.logins.reachable
    world.now = 1000.0 + OUTAGE_SECONDS + 1
    assert await world.password() is UNAVAILABLE
    world.rows.away = False
    assert await world.password() == Account("alice")
    assert await world.password("bob") == Account("bob")


async def test_who_was_in_waits_no_longer_than_a_moment_for_a_table_that_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.gateways.login.logins.KNOWN_SECONDS", 0.02)
    await world.password()
    world.rows.hangs = True
    world.now += CACHE
    assert await asyncio.wait_for(world.password(), 5) == Account("alice")


async def test_guesses_are_slowed_down_and_cost_no_check_then(world: World) -> None:
    answers = [await world.password(password=f"guess number {number}") for number in range(50)]
    assert answers == [BAD] * PAIR_FAILURES + [SLOWED] * (50 - PAIR_FAILURES)
    assert world.checked == PAIR_FAILURES
    assert await world.password() is SLOWED, "the right one too, of whoever has never been in from there"
    world.now += 10
    assert await world.password() == Account("alice")


async def test_many_guesses_at_once_get_no_further(world: World) -> None:
    answers = await asyncio.gather(*(world.password(password=f"guess number {number}") for number in range(50)))
    assert answers.count(BAD) <= PAIR_FAILURES + 2, "logins that wait for their turn are checked again when it comes"
    assert world.checked <= PAIR_FAILURES + 2


async def test_the_same_wrong_password_again_is_no_new_guess(world: World) -> None:
    answers = [await world.password(password="wrong password") for _ in range(100)]
    assert answers == [BAD] * 100
    assert world.checked == 1
    assert await world.password() == Account("alice"), "a device that is set up wrongly slows down no other"
    world.now += WRONG_SECONDS
    assert await world.password(password="wrong password") is BAD
    assert world.checked == 3


async def test_an_attacker_elsewhere_locks_nobody_out(world: World) -> None:
    for number in range(200):
        await world.password(password=f"guess {number}", peer=THERE)
    assert await world.password(peer=HERE) == Account("alice")
    assert await world.password("bob", peer=HERE) == Account("bob")


async def test_an_attacker_next_door_does_not_lock_out_who_has_been_in(world: World) -> None:
    """Behind one address: what was right is not checked again, whatever its pace."""
    await world.password()
    for number in range(200):
        await world.password(password=f"guess {number}")
        await world.password(f"user {number}", f"guess {number}")
    assert await world.password() == Account("alice")
    world.now += CACHE + 1
    await world.password(password="one more guess")
    assert await world.password() == Account("alice")
    assert await world.logins.by_token(TOKEN, HERE) != SLOWED, "and a right token is never held up"


async def test_tokens_that_are_none_are_slowed_down_and_a_right_one_never(world: World) -> None:
    answers = [await world.logins.by_token(f"iots_{number:043}", HERE) for number in range(100)]
    assert set(answers[:30]) == {BAD}
    assert set(answers[30:]) == {SLOWED}
    assert isinstance(await world.logins.by_token(TOKEN, HERE), Account)
    assert await world.password() == Account("alice")


async def test_what_is_remembered_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.gateways.login.logins.REMEMBERED", 10)
    monkeypatch.setattr("app.gateways.login.logins.WRONG", 10)
    for number in range(50):
        world.rows.names[f"u{number}"] = AccountRow(Account(f"u{number}"), HASH, OF_DEVICES)
        await world.logins.by_certificate(f"u{number}", None, HERE)
        await world.logins.by_certificate(f"x{number}", None, HERE)
    assert (len(world.logins._right), len(world.logins._wrong), len(world.logins._asking)) == (10, 10, 0)
    asked = world.rows.asked["u49"]
    await world.logins.by_certificate("u49", None, HERE)
    assert world.rows.asked["u49"] == asked, "the newest accounts stay in the cache"


async def test_refusals_are_counted_by_reason(world: World) -> None:
    from prometheus_client import REGISTRY

    def count(reason: str) -> float:
        labels = {"gateway": "http", "reason": reason}
        return REGISTRY.get_sample_value("iot_gateway_refused_logins_total", labels) or 0.0

    accounts = CountedAccounts(world.logins, "http")
    before = {reason: count(reason) for reason in Refusal}
    assert await accounts.by_password("alice", PASSWORD, HERE) == Account("alice")
    await accounts.by_password("alice", "wrong password", HERE)
    await accounts.by_token(OTHER, HERE)
    await accounts.anonymous(HERE)
    world.rows.away = True
    await accounts.by_certificate("bob", None, HERE)
    gained = {reason: count(reason) - before[reason] for reason in Refusal}
    assert gained == {BAD: 3, SLOWED: 0, UNAVAILABLE: 1}


async def test_behind_a_proxy_its_address_says_nothing(world: World) -> None:
    proxied = CountedAccounts(world.logins, "tcp", knows_peers=False)
    for number in range(60):
        await proxied.by_password(f"user-{number}", "wrong password", HERE)
    assert await proxied.by_password("alice", PASSWORD, HERE) == Account("alice")


async def test_no_secret_and_no_name_is_logged(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    accounts = CountedAccounts(world.logins, "http")
    await accounts.by_password("mistyped-secret", "another-secret", HERE)
    await accounts.by_token(OTHER, HERE)
    said = capsys.readouterr()
    text = said.out + said.err
    assert "login_refused" in text
    assert HERE in text
    assert not any(secret in text for secret in ("mistyped-secret", "another-secret", OTHER))
