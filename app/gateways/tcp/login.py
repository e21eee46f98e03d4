"""Whose a connection is: in, a certificate, its first line, or neither; out, its account, or why it has none.

A login line is `{"user":"alice","password":"..."}`, `{"token":"..."}` or `{"user":"alice","token":"..."}`, with nothing
else in it: so no line of telemetry is taken for a login, nor a login for telemetry.
"""

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct

from app.core.routing.certificate_names import peer_names
from app.gateways.listener import AccountSeats
from app.ports import Account, Accounts, Refusal

LOGIN_BYTES = 8192  # of a login line; a token has 64
EXPECTED = (
    "login_expected",
    'the first line is the login: {"user":"alice","token":"..."} or {"user":"alice","password":"..."}',
)
REFUSED = {
    Refusal.BAD_CREDENTIALS: "no account has these credentials",
    Refusal.SLOWED_DOWN: "too many wrong credentials came from this address, or for this account: try again later",
    Refusal.UNAVAILABLE: "accounts cannot be asked right now: try again",
}

TOO_MANY = (
    "too_many_connections",
    "the account has as many connections as an account may have: use fewer, or try again later",
)

Why = tuple[str, str]  # the reason of a refusal, and the sentence


class LoginLine(Struct, frozen=True, forbid_unknown_fields=True):
    """Credentials as they were sent."""

    user: str | None = None
    token: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"LoginLine({self.user})"


# The line that a request of HTTP begins with, as far as it has come: a web page can make its browser send lines here,
# in the name of whoever needs no credentials on this machine.
_is_http = re.compile(rb"[A-Z]{3,16} (?:[^ ]{1,8192} HTTP/|/[^ ]{40})").match

_decode = msgspec.json.Decoder(LoginLine).decode


def read_login(line: bytes) -> LoginLine | None:
    """The credentials of a login line; None for any other line. Never raises."""
    if len(line) > LOGIN_BYTES:
        return None
    try:
        found = _decode(line)
    except (ValueError, RecursionError):  # ValueError: also msgspec's and UnicodeError
        return None
    if found.token is not None:
        return found if found.password is None else None
    return found if found.user is not None and found.password is not None else None


class TcpLogin:
    """The login of one connection. An account is asked for again from time to time: it may be locked, or have other
    rights.
    """

    def __init__(
        self,
        accounts: Accounts,
        peer: str,
        seconds: float,
        done: Callable[[Why | None], None],
        seats: AccountSeats,
    ) -> None:
        """`done` is called with None once the connection has an account, and with why when it has none (any more).

        `seconds`: longest the accounts are awaited. `seats`: of connections that have an account.
        """
        self._accounts, self._peer, self._seconds, self._done, self._seats = accounts, peer, seconds, done, seats
        self._loop = asyncio.get_running_loop()
        self._ask: Callable[[], Awaitable[Account | Refusal]] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._since = 0.0
        self.account: Account | None = None
        self._seated: str | None = None  # the user whose seat this is

    @property
    def asking(self) -> bool:
        """Whether a question is under way."""
        return self._asking is not None

    def by_certificate(self, certificate: Any) -> None:
        """Ask for the account of a client certificate, given as ssl shows one that it has verified
        (SSLSocket.getpeercert).
        """
        common, device = peer_names(certificate)
        ends = ssl.cert_time_to_seconds(certificate["notAfter"])

        async def ask() -> Account | Refusal:
            if time.time() > ends:  # a connection does not outlive its certificate
                return Refusal.BAD_CREDENTIALS
            return await self._accounts.by_certificate(common, device, self._peer)

        self._begin(ask)

    def by_line(self, line: bytes) -> bool:
        """Ask for the account that a first line names. False: it is no login, and may be of who needs none."""
        found = read_login(line)
        if _is_http(line):
            self._begin(_nobody, EXPECTED)
        elif found is None:
            self._begin(lambda: self._accounts.anonymous(self._peer), EXPECTED)
        else:
            self._begin(lambda: self._of(found))
        return found is not None

    def ask_again(self, seconds: float) -> None:
        """Ask again if the last answer is older than `seconds`."""
        if self._ask and not self._asking and self.account and self._loop.time() - self._since > seconds:
            self._begin(self._ask)

    def cancel(self) -> None:
        """Give up the question under way, and the account's seat: the connection is gone. Safe twice."""
        if self._asking:
            self._asking.cancel()
        if self._seated is not None:
            self._seats.free(self._seated)
            self._seated = None

    async def _of(self, login: LoginLine) -> Account | Refusal:
        if login.token is None:
            return await self._accounts.by_password(login.user or "", login.password or "", self._peer)
        found = await self._accounts.by_token(login.token, self._peer)
        if isinstance(found, Account) and login.user is not None and login.user != found.user_id:
            return Refusal.BAD_CREDENTIALS
        return found

    def _begin(self, ask: Callable[[], Awaitable[Account | Refusal]], expected: Why | None = None) -> None:
        self._ask = ask
        self._asking = self._loop.create_task(self._answer(ask, expected))

    async def _answer(self, ask: Callable[[], Awaitable[Account | Refusal]], expected: Why | None) -> None:
        found: Account | Refusal = Refusal.UNAVAILABLE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                found = await ask()
        self._asking, self._since = None, self._loop.time()
        if isinstance(found, Account):
            if self._seated is None and not self._seats.take(found.user_id):
                self._done(TOO_MANY)
                return
            self._seated = self._seated or found.user_id
            self.account = found
            self._done(None)
        elif self.account is None or found is Refusal.BAD_CREDENTIALS:
            self._done(expected if expected and found is Refusal.BAD_CREDENTIALS else (found.value, REFUSED[found]))
        else:
            self._done(None)


async def _nobody() -> Refusal:
    return Refusal.BAD_CREDENTIALS
