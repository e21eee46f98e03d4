"""Who calls, or with which status the call ends: in, a call; out, its account."""

import asyncio
from urllib.parse import unquote

import grpc

from app.gateways.gateway_metrics import REFUSED_LOGINS
from app.gateways.grpc.credentials import (
    HOW,
    CertificateShown,
    NoCredentials,
    NothingShown,
    OtherDevice,
    PasswordShown,
    Shown,
    TokenShown,
    shown,
)
from app.gateways.grpc.refusal import NAME, CallRefusal, Context
from app.gateways.telemetry_record import NOT_ALLOWED
from app.ports import Account, Accounts, Refusal

UNIX = "unix"
SLOWED_SECONDS = 5.0
AWAY_SECONDS = 2.0
NOTHING = CallRefusal(
    grpc.StatusCode.UNAUTHENTICATED, Refusal.BAD_CREDENTIALS, f"no credentials: {HOW}, or show a client certificate"
)
NO_ACCOUNT = "the credentials are of no account: `iot-stream users list` shows which there are"


def peer_of(context: Context) -> str:
    """The address that calls, without its port; `unix` for all on the socket."""
    kind, _, rest = unquote(context.peer()).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else UNIX


class CallerIdentity:
    """Asks the accounts whose a call is."""

    def __init__(self, accounts: Accounts, seconds: float) -> None:
        """`seconds`: how long a call waits for the accounts."""
        self._accounts, self._seconds = accounts, seconds

    async def caller(self, context: Context) -> Account | CallRefusal:
        """The account of a call, or why it has none. Never raises."""
        peer = peer_of(context)
        credentials = shown(context.invocation_metadata() or (), context.auth_context())
        try:
            async with asyncio.timeout(self._seconds):
                found = await self._asked(credentials, peer)
        except TimeoutError:
            found = Refusal.UNAVAILABLE
        if isinstance(found, Account):
            return found
        if isinstance(found, CallRefusal):  # the accounts were not asked, who count by themselves (login/counted.py)
            REFUSED_LOGINS.labels(NAME, Refusal.BAD_CREDENTIALS.value).inc()
            return found
        return _refused(found, peer, type(credentials) is NothingShown)

    async def _asked(self, credentials: Shown, peer: str) -> Account | Refusal | CallRefusal:
        match credentials:
            case TokenShown(token):
                return await self._accounts.by_token(token, peer)
            case PasswordShown(user, password):
                return await self._accounts.by_password(user, password, peer)
            case CertificateShown(common_name, device):
                return await self._accounts.by_certificate(common_name, device, peer)
            case NoCredentials(detail):
                return CallRefusal(grpc.StatusCode.UNAUTHENTICATED, Refusal.BAD_CREDENTIALS, detail)
            case OtherDevice(detail):
                return CallRefusal(grpc.StatusCode.PERMISSION_DENIED, NOT_ALLOWED, detail)
            case NothingShown():  # a proxy on this machine calls from loopback, for whoever it is
                return await self._accounts.anonymous(peer) if peer == UNIX else NOTHING


def _refused(refusal: Refusal, peer: str, nothing: bool) -> CallRefusal:
    match refusal:
        case Refusal.BAD_CREDENTIALS:
            return NOTHING if nothing else CallRefusal(grpc.StatusCode.UNAUTHENTICATED, refusal, NO_ACCOUNT)
        case Refusal.SLOWED_DOWN:
            detail = f"too many logins from {peer} have failed: wait, and look at the credentials"
            return CallRefusal(grpc.StatusCode.RESOURCE_EXHAUSTED, refusal, detail, SLOWED_SECONDS)
        case Refusal.UNAVAILABLE:
            detail = "accounts cannot be asked now: the database is away"
            return CallRefusal(grpc.StatusCode.UNAVAILABLE, refusal, detail, AWAY_SECONDS)
