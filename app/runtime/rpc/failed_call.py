"""An RpcError in; out, what it says in one line, whether the same call may succeed later, and when it is to be made."""

import re
from collections.abc import Iterable

import grpc

RETRY_AFTER = "retry-after-ms"  # trailing metadata, as proto/ingest.proto says
LONGEST = 3600_000  # ms; a server that says more is not believed

_Code = grpc.StatusCode
# Other codes say that the same call would fail again: the caller has to change something.
AGAIN = {
    *(_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED, _Code.RESOURCE_EXHAUSTED, _Code.ABORTED, _Code.CANCELLED),
    _Code.INTERNAL,  # what a proxy, or a connection that broke within a message, becomes
}
_CUT = re.compile(r"Stream removed")  # UNKNOWN, where a connection ended before the call did
# The client's own words, and INTERNAL, when the call ended within a write: the status of the server is lost then.
_LOST = re.compile(r"^INTERNAL: Internal error from Core")
_TOO_LARGE = re.compile(r"larger than max", re.I)  # gRPC's own words, whose code is RESOURCE_EXHAUSTED as well
# Failures that no time mends, though gRPC says UNAVAILABLE: one of the two certificates is not trusted, or is missing.
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED|CERTIFICATE_REQUIRED|UNKNOWN_CA|Hostname Verification", re.I)
# With TLS 1.3 a client is connected before the server has looked at its certificate, and gRPC says no more than this.
_CLOSED = re.compile(r"^failed to connect to all addresses.*Socket closed$")
CLOSED_HINT = (
    " (the server closes each new connection: a certificate has expired, is of an unknown CA, or is missing;"
    " or one side alone speaks TLS)"
)
_ADDRESSES = re.compile(r"failed to connect to all addresses; last error: (?:\w+: )?")


def words(error: BaseException) -> str:
    """The failure on one line; for an RpcError its code first."""
    if isinstance(error, grpc.RpcError):
        details = " ".join(_details(error).split())
        hint = CLOSED_HINT if _CLOSED.match(details) else ""
        return f"{status_of(error).name}: {_ADDRESSES.sub('', details)}{hint}"
    return str(error) or type(error).__name__


def status_of(error: grpc.RpcError) -> grpc.StatusCode:
    """The status that ended the call; UNKNOWN where there is none."""
    found: grpc.StatusCode = getattr(error, "code", _unknown)()
    return found


def call_may_pass(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed later, by its status and words."""
    said = words(error)
    passing = status_of(error) in AGAIN or was_cut(error)
    return passing and not is_too_large(error) and not _UNTRUSTED.search(said)


def was_cut(error: grpc.RpcError) -> bool:
    """Whether the connection ended before the call did, though the status does not say so."""
    return _CUT.search(words(error)) is not None


def lost_status(error: grpc.RpcError) -> bool:
    """Whether the call ended while a message was being sent, so that gRPC's client does not say why."""
    return _LOST.search(words(error)) is not None


def is_too_large(error: grpc.RpcError) -> bool:
    """Whether a message had more bytes than the other side takes."""
    return _TOO_LARGE.search(words(error)) is not None


def wanted_pause(error: BaseException) -> float | None:
    """Seconds until the server wants the next try, an hour at most; None: it does not say."""
    metadata: Iterable[tuple[str, object]] = getattr(error, "trailing_metadata", tuple)() or ()
    value = next((value for name, value in metadata if name == RETRY_AFTER), "")
    if isinstance(value, str) and value.isdigit() and len(value) < 8:
        return min(int(value), LONGEST) / 1000
    return None


def _details(error: grpc.RpcError) -> str:
    return getattr(error, "details", str)() or ""


def _unknown() -> grpc.StatusCode:
    return _Code.UNKNOWN
