"""Credentials -> the account, or why not: remembered, looked up, checked; app.ports.Accounts.

    1 what was right a moment ago is right        (IOT_AUTH_CACHE_SECONDS)
    2 what was wrong a moment ago is wrong        (WRONG_SECONDS), and is no other guess
    3 whoever guesses waits                       (login_pace.py)
    4 the table is asked; while it is away, what was right within the hour is right, and all others get `unavailable`
    5 a password is checked, in its turn          (password_checks.py), unless its hash is the one it was right for

So neither an outage nor somebody else's guesses keep out a sender that has been let in; and no answer says which part
was wrong.
"""

import asyncio
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b

import structlog
from msgspec import Struct

from app.core.ingress.login_pace import PAIR_FAILURES, LoginPace
from app.core.routing.mqtt_acl import name_fault
from app.core.routing.tokens import digest, is_token
from app.errors import TransientError
from app.gateways.login.password_checks import NOBODY, PasswordChecks
from app.ports import Account, AccountRow, AccountRows, Refusal
from app.runtime.peers import grouped

log = structlog.get_logger()

OUTAGE_SECONDS = 3600.0  # what was right so lately is right while the database is away
WRONG_SECONDS = 10.0
KNOWN_SECONDS = 1.0  # a sender that has been let in waits no longer for a database that hangs
REMEMBERED, WRONG = 65_536, 8_192  # credentials: 400 bytes each, by tracemalloc


class _Verified(Struct):
    row: AccountRow  # with the hash that the password was right for
    at: float  # when the table said so last


class _Claim(Struct, frozen=True):
    """What a sender shows of itself."""

    key: bytes  # a digest of all of it, under this process's own secret
    peer: str
    name: str  # of the account; empty for a token
    row: Callable[[], Awaitable[AccountRow | None]]
    password: str | None = None  # None: there is nothing to check but the row


class Logins:
    """The accounts of one process, for all its gateways."""

    def __init__(
        self,
        rows: AccountRows,
        cache_seconds: float,
        pace: LoginPace,
        anonymous: str | None = None,
        checks: PasswordChecks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cache_seconds`: for how long what was right counts (IOT_AUTH_CACHE_SECONDS); `anonymous`: the name of the
        account of whoever shows no credentials, None: there is none; `clock` returns seconds and never goes back.
        """
        self._rows, self._cache_seconds, self._pace, self._clock = rows, cache_seconds, pace, clock
        self._anonymous = anonymous
        self._checks = checks or PasswordChecks()
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, _Verified] = OrderedDict()
        self._wrong: OrderedDict[bytes, float] = OrderedDict()  # until when
        self._checking: Counter[tuple[str, str]] = Counter()  # passwords, by peer and account
        self._asking: dict[tuple[bytes, str], asyncio.Task[AccountRow | Refusal]] = {}

    @property
    def reachable(self) -> bool:
        """Whether the table could be asked the last time."""
        return self._rows.answers

    async def by_password(self, user: str, password: str, peer: str) -> Account | Refusal:
        """Look up an account by its name and password, as the port says."""
        if _unfit(user):
            return self._guessed(grouped(peer), "")
        key = self._key(b"password", user, password)
        return await self._login(_Claim(key, grouped(peer), user, lambda: self._rows.named(user), password))

    async def by_token(self, token: str, peer: str) -> Account | Refusal:
        """Look up the account of a bearer token, as the port says."""
        if not is_token(token):
            return self._no_token(grouped(peer))
        found = digest(token)
        return await self._login(_Claim(found, grouped(peer), "", lambda: self._rows.of_token(found)))

    async def by_certificate(self, common_name: str, device: str | None, peer: str) -> Account | Refusal:
        """Look up the account that a certificate names, as the port says. A certificate with a device speaks for the
        device alone, and only of its telemetry.
        """
        if _unfit(common_name):
            return Refusal.BAD_CREDENTIALS
        key = self._key(b"certificate", common_name)  # whatever the device: who makes up names of some fills no memory
        claim = _Claim(key, grouped(peer), common_name, lambda: self._rows.named(common_name))
        return await self._login(claim, device)

    async def anonymous(self, peer: str) -> Account | Refusal:
        """Look up the account of a sender without credentials, as the port says."""
        name = self._anonymous
        if name is None:
            return Refusal.BAD_CREDENTIALS
        key = self._key(b"anonymous", name)
        return await self._login(_Claim(key, grouped(peer), name, lambda: self._rows.named(name)))

    async def warm(self) -> None:
        """Connect, so that the first login need not wait for a connection, and /health says how the database is. An
        outage is passed over.
        """
        try:
            found = await self._rows.named(self._anonymous or "-")
        except TransientError:
            return
        if self._anonymous is not None and found is None:
            log.warning(
                "anonymous_account_missing", cure="iot-stream users add, or unset IOT_GATEWAY_ANONYMOUS_ACCOUNT"
            )

    async def close(self) -> None:
        """Close the connections and threads with which credentials are checked."""
        self._checks.close()
        await self._rows.close()

    async def _login(self, claim: _Claim, device: str | None = None) -> Account | Refusal:
        """`device`: that of a certificate."""
        known = self._right.get(claim.key)
        if known is not None and self._clock() - known.at < self._cache_seconds:
            self._right.move_to_end(claim.key)
            return _account(known.row, device)
        asked = (claim.key, claim.peer)
        task = self._asking.get(asked)
        if task is None:
            task = self._asking[asked] = asyncio.create_task(self._verify(claim))
            task.add_done_callback(lambda _: self._asking.pop(asked, None))
        found = await asyncio.shield(task)  # many logins may wait for this answer, and one of them be cancelled
        return found if isinstance(found, Refusal) else _account(found, device)

    async def _verify(self, claim: _Claim) -> AccountRow | Refusal:
        now, known = self._clock(), self._right.get(claim.key)
        if self._wrong.get(claim.key, 0.0) > now:
            return Refusal.BAD_CREDENTIALS
        if known is None and claim.password is not None and self._pace.wait(claim.peer, claim.name, now):
            return Refusal.SLOWED_DOWN
        try:
            async with asyncio.timeout(KNOWN_SECONDS if known else None):
                row = await claim.row()
        except (TransientError, TimeoutError):
            return known.row if known and now - known.at < OUTAGE_SECONDS else Refusal.UNAVAILABLE
        right: bool | None = True
        if claim.password is not None and not (known and row and known.row.password_hash == row.password_hash):
            right = await self._is_right(claim, row)
        if right is None:
            return Refusal.SLOWED_DOWN
        return self._right_for(claim, row) if right and row and not _ended(row) else self._wrong_for(claim)

    async def _is_right(self, claim: _Claim, row: AccountRow | None) -> bool | None:
        """None: it was not looked at."""

        def wanted() -> bool:
            return not self._pace.wait(claim.peer, claim.name, self._clock())

        pair = (claim.peer, claim.name)
        if claim.peer and self._checking[pair] >= PAIR_FAILURES:
            return None  # so many guesses at once as it may make: more would only fill the lane
        known = self._pace.is_known(claim.peer, claim.name)
        lane = f"{claim.name} {claim.peer}" if known else claim.name  # an attack from elsewhere fills another lane
        hashed = row.password_hash if row else NOBODY
        self._checking[pair] += 1
        try:
            return await self._checks.check(lane, claim.password or "", hashed, wanted)
        finally:
            self._checking[pair] -= 1
            if not self._checking[pair]:
                del self._checking[pair]

    def _wrong_for(self, claim: _Claim) -> Refusal:
        self._right.pop(claim.key, None)
        self._wrong[claim.key] = self._clock() + WRONG_SECONDS
        if len(self._wrong) > WRONG:
            self._wrong.popitem(last=False)
        if claim.password is not None:
            return self._guessed(claim.peer, claim.name)
        return Refusal.BAD_CREDENTIALS if claim.name else self._no_token(claim.peer)

    def _right_for(self, claim: _Claim, row: AccountRow) -> AccountRow:
        self._right[claim.key] = _Verified(row, self._clock())
        self._right.move_to_end(claim.key)
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        if claim.name:
            self._pace.succeeded(claim.peer, claim.name)
        return row

    def _guessed(self, peer: str, name: str) -> Refusal:
        """A wrong password; the next one may have to wait."""
        self._pace.failed(peer, name, self._clock())
        return Refusal.BAD_CREDENTIALS

    def _no_token(self, peer: str) -> Refusal:
        return Refusal.SLOWED_DOWN if self._pace.wait_after_token(peer, self._clock()) else Refusal.BAD_CREDENTIALS

    def _key(self, *parts: bytes | str) -> bytes:
        made = blake2b(key=self._secret, digest_size=24)
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            made.update(b"%d:" % len(data) + data)
        return made.digest()


def _unfit(name: str) -> bool:
    """Whether no account can have this name."""
    try:
        return name_fault(name) is not None
    except UnicodeEncodeError:
        return True


def _account(row: AccountRow, device: str | None) -> Account | Refusal:
    """Whom the row lets in now; `device`: that of a certificate, which is then all it may speak for."""
    account = row.account
    if _ended(row) or not (device is None or account.speaks_for(device)):
        return Refusal.BAD_CREDENTIALS
    return account if device is None else Account(account.user_id, device, rules=row.of_devices)


def _ended(row: AccountRow) -> bool:
    return row.ends is not None and row.ends <= time.time()
