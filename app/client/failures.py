"""The failure of a call -> whether to try again, and when; and what a client raises when a repeat is of no use.

An error has the items that were not acknowledged: nothing is lost by a failure, as the caller has the items. Some of
them may be in Kafka all the same, as an ack may be lost on its way; items that are sent again are stored once.
"""

import re
from collections.abc import Iterable, Sequence

import grpc

from app.client.pace import Pace
from app.client.sent_batch import Item
from app.errors import PermanentError, TransientError
from app.runtime.retry import delay

RETRY_AFTER = "retry-after-ms"  # trailing metadata, as proto/ingest.proto says
BELIEVED = 3  # times in a row that a gateway may say "at once"
LONGEST = 3600_000  # ms; a gateway that says more is not believed

_Code = grpc.StatusCode
# Other codes say that the same call would fail again: the caller has to change something.
AGAIN = {
    *(_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED, _Code.RESOURCE_EXHAUSTED, _Code.ABORTED, _Code.CANCELLED),
    _Code.INTERNAL,  # what a proxy, or a connection that broke within a message, becomes
}
_CUT = re.compile(r"Stream removed")  # UNKNOWN, where a connection ended before the call did
_TOO_LARGE = re.compile(r"larger than max", re.I)  # gRPC's own words, whose code is RESOURCE_EXHAUSTED as well
# Failures that no time mends, though gRPC says UNAVAILABLE: one of the two certificates is not trusted, or is missing.
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED|CERTIFICATE_REQUIRED|UNKNOWN_CA|Hostname Verification", re.I)
# With TLS 1.3 a client is connected before the gateway has looked at its certificate, and gRPC says no more than this.
_CLOSED = re.compile(r"^failed to connect to all addresses.*Socket closed$")
CLOSED_HINT = (
    " (the gateway closes each new connection: a certificate has expired, is of an unknown CA, or is missing;"
    " or one side alone speaks TLS)"
)
_ADDRESSES = re.compile(r"failed to connect to all addresses; last error: (?:\w+: )?")


class NotAckedError(TransientError):
    """The gateway could not be reached, or did not answer, within the patience of the client; `items` have no ack."""

    def __init__(self, message: str, items: Sequence[Item] = ()) -> None:
        super().__init__(message)
        self.items = items


class GatewayRefusedError(PermanentError):
    """The gateway answers, and refuses the call: str() says why; `items` have no ack."""

    def __init__(self, message: str, items: Sequence[Item] = ()) -> None:
        super().__init__(message)
        self.items = items


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later: for an RpcError by its code and words, else for a TransientError or
    TimeoutError.
    """
    if isinstance(error, grpc.RpcError):
        said = words(error)
        passing = getattr(error, "code", _unknown)() in AGAIN or _CUT.search(said) is not None
        return passing and not _TOO_LARGE.search(said) and not _UNTRUSTED.search(said)
    return isinstance(error, TransientError | TimeoutError)


def pause_after(error: BaseException, failures: int, pace: Pace) -> float:
    """Seconds until the next try after so many failures in a row (1: the first).

    A pause that the gateway asks for is kept, unless it was of no use several times: then the pauses grow all the same.
    """
    own = delay(failures - 1, pace.first_pause, pace.longest_pause)
    wanted = _wanted(error)
    if wanted is None:
        return own
    return wanted if failures <= BELIEVED else max(wanted, own)


def words(error: BaseException) -> str:
    """The failure on one line; for an RpcError its code first."""
    if isinstance(error, grpc.RpcError):
        status = getattr(error, "code", _unknown)()
        details = " ".join((getattr(error, "details", str)() or "").split())
        hint = CLOSED_HINT if _CLOSED.match(details) else ""
        return f"{status.name}: {_ADDRESSES.sub('', details)}{hint}"
    return str(error) or type(error).__name__


def refused(error: BaseException, items: Sequence[Item] = ()) -> GatewayRefusedError:
    """The error to raise for a failure that does not pass; `items` have no ack."""
    return GatewayRefusedError(f"the gateway refuses: {words(error)}", items)


def given_up(error: BaseException, seconds: float, items: Sequence[Item] = ()) -> NotAckedError:
    """The error to raise for a failure that has not passed in `seconds`; `items` have no ack."""
    return NotAckedError(f"no ack within {seconds:g} s: {words(error)}", items)


def _wanted(error: BaseException) -> float | None:
    metadata: Iterable[tuple[str, object]] = getattr(error, "trailing_metadata", tuple)() or ()
    value = next((value for name, value in metadata if name == RETRY_AFTER), "")
    if isinstance(value, str) and value.isdigit() and len(value) < 8:
        return min(int(value), LONGEST) / 1000
    return None


def _unknown() -> grpc.StatusCode:
    return _Code.UNKNOWN
