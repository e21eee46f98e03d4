"""Who sends a request: its Authorization, the parameters of InfluxDB's clients, or the certificate of its connection.

The first credential that is there counts, and has to be right: a second credential lets nobody in when the first is
wrong.
"""

import asyncio
import base64
import binascii
import ipaddress
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from aiohttp import hdrs, web

from app.core.routing.certificate_names import peer_names
from app.gateways.gateway_metrics import REFUSED_LOGINS
from app.gateways.http.connection import HttpConnection
from app.gateways.http.problem import RETRY_SECONDS, Problem
from app.ports import Account, Accounts, Refusal

# A connection that sends the same credentials again is not asked for them again for so long: an account that is locked
# out stays so much longer than the cache of accounts has it (IOT_AUTH_CACHE_SECONDS).
KNOWN_SECONDS = 5.0
SLOWED_SECONDS = 30.0  # until the next try, after too many failures
FORWARDED = "X-Forwarded-For"
DEVICE_HEADER = "X-Device-Id"  # of a certificate that names no device itself
_CHALLENGE = ((hdrs.WWW_AUTHENTICATE, 'Bearer realm="iot-stream", Basic realm="iot-stream", charset="UTF-8"'),)

Credentials = tuple[str, str]  # user and password; "" and a token


class Identity:
    """Finds out whose the requests of one gateway are."""

    def __init__(self, accounts: Accounts, peer: Callable[[web.BaseRequest], str], seconds: float) -> None:
        """`peer`: the address that a request comes from; `seconds`: longest the accounts are awaited."""
        self._accounts, self._peer, self._seconds = accounts, peer, seconds
        self._loop = asyncio.get_running_loop()

    async def of(self, request: web.BaseRequest, connection: HttpConnection, influx: bool) -> Account | Problem:
        """The account of a request, or why there is none. `influx`: the forms of InfluxDB's clients are taken, too.
        Never raises but for a cancelled task.
        """
        header = request.headers.get(hdrs.AUTHORIZATION)
        known = connection.known
        if header is not None and known is not None and known[0] == header and self._loop.time() < known[2]:
            return known[1]
        try:
            async with asyncio.timeout(self._seconds):
                found = await self._ask(request, connection, header, influx)
        except TimeoutError:
            found = Refusal.UNAVAILABLE
        if isinstance(found, Refusal):
            return _REFUSED[found]
        if isinstance(found, Account) and header is not None:
            connection.known = (header, found, self._loop.time() + KNOWN_SECONDS)
        return found

    async def _ask(
        self, request: web.BaseRequest, connection: HttpConnection, header: str | None, influx: bool
    ) -> Account | Refusal | Problem:
        peer = self._peer(request)
        given: Credentials | None
        if header is not None:
            given = credentials(header, influx)
            if given is None:
                REFUSED_LOGINS.labels("http", Refusal.BAD_CREDENTIALS.value).inc()
                return _UNREADABLE
        else:
            given = _in_query(request) if influx else None
        if given is not None:
            user, secret = given
            if not user:
                return await self._accounts.by_token(secret, peer)
            return await self._accounts.by_password(user, secret, peer)
        if (certificate := _certificate(connection)) is not None:
            if ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():
                return _ENDED
            name, device = peer_names(certificate)
            return await self._accounts.by_certificate(name, device or request.headers.get(DEVICE_HEADER), peer)
        found = await self._accounts.anonymous(peer)
        return _FROM_A_PAGE if isinstance(found, Account) and hdrs.ORIGIN in request.headers else found


def credentials(header: str, influx: bool) -> Credentials | None:
    """The user and password, or "" and the token, that an Authorization header says; None: nothing that the gateway
    knows. `influx`: the scheme Token is, too. Never raises.
    """
    scheme, _, rest = header.strip().partition(" ")
    scheme, rest = scheme.lower(), rest.strip()
    if not rest:
        return None
    if scheme == "basic":
        try:
            text = base64.b64decode(rest, validate=True).decode()
        except (binascii.Error, ValueError):
            return None
        user, colon, password = text.partition(":")
        return (user, password) if user and colon else None
    if scheme == "bearer":
        return "", rest
    if scheme == "token" and influx:  # InfluxDB 2; its clients of version 1 put user:password there
        user, colon, password = rest.partition(":")
        return (user, password) if user and colon else ("", rest)
    return None


def _certificate(connection: HttpConnection) -> Any:
    """What TLS has verified; None without TLS, or where certificates are not asked for."""
    return connection.transport.get_extra_info("peercert") or None if connection.transport else None


def peer_of(request: web.BaseRequest) -> str:
    """The address of the other side of the connection, without its port."""
    return cast(HttpConnection, request.protocol).peer


def forwarded_peer_of(request: web.BaseRequest) -> str:
    """The address that the proxy in front saw, which is the last of X-Forwarded-For; "" where the header names none."""
    last = ",".join(request.headers.getall(FORWARDED, ())).rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return ""  # its own would make all who come by it one, and slow all of them down for one who guesses


def _in_query(request: web.BaseRequest) -> Credentials | None:
    query = request.query
    user = query.get("u")
    return (user, query.get("p", "")) if user else None


_REFUSED = {
    Refusal.BAD_CREDENTIALS: Problem(
        HTTPStatus.UNAUTHORIZED,
        Refusal.BAD_CREDENTIALS.value,
        "no account has these credentials: send a bearer token, or user and password",
        headers=_CHALLENGE,
    ),
    Refusal.SLOWED_DOWN: Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        Refusal.SLOWED_DOWN.value,
        "too many wrong credentials came from this address, or for this account",
        SLOWED_SECONDS,
    ),
    Refusal.UNAVAILABLE: Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        Refusal.UNAVAILABLE.value,
        "accounts cannot be asked right now",
        RETRY_SECONDS,
    ),
}
_UNREADABLE = Problem(
    HTTPStatus.UNAUTHORIZED,
    Refusal.BAD_CREDENTIALS.value,
    "the Authorization header has no scheme that the gateway knows: Bearer TOKEN, or Basic with user and password",
    headers=_CHALLENGE,
)
_ENDED = Problem(
    HTTPStatus.UNAUTHORIZED, Refusal.BAD_CREDENTIALS.value, "the certificate has ended since the connection began"
)
# A web page that somebody looks at on this machine could write in the name of the anonymous account otherwise.
_FROM_A_PAGE = Problem(
    HTTPStatus.FORBIDDEN, "from_a_page", "a request of a web page (with an Origin) needs credentials"
)
