"""Why a call ends without its answer: the status that it ends with, and in how long it is worth trying again.

That time stands in the trailing metadata three times, for who reads which: `retry-after-ms` (proto/ingest.proto),
`grpc-retry-pushback-ms`, which gRPC's own retries obey, and google.rpc.RetryInfo in `grpc-status-details-bin`.
"""

import asyncio
from typing import NamedTuple, Never

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from app.core.model.fault import printable
from app.gateways.gateway_metrics import REJECTED, REQUESTS

NAME = "grpc"  # of this gateway, in metrics and headers
Context = aio.ServicerContext[bytes, bytes]
SAY_SECONDS = 2.0
DETAIL_MAX = 500  # characters: metadata is bounded on the other side too
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


class CallRefusal(NamedTuple):
    """What the caller gets with the status of a call."""

    code: grpc.StatusCode
    reason: str  # of a closed set; the label of a metric
    detail: str
    retry_after: float | None = None  # seconds; None: as it is, it would be refused again

    @property
    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The trailing metadata, which says when to try again; empty where it does not help."""
        if self.retry_after is None:
            return ()
        milliseconds = str(max(1, round(1000 * self.retry_after)))
        details = _status_details(self.code.value[0], self.detail, self.retry_after)
        return (
            ("retry-after-ms", milliseconds),
            ("grpc-retry-pushback-ms", milliseconds),
            ("grpc-status-details-bin", details),
        )


async def next_message(context: Context) -> bytes | None:
    """The caller's next message; None: there will be no more, or the call has ended."""
    data: object = await context.read()
    return data if isinstance(data, bytes) else None  # else it is grpc.aio.EOF


async def refuse(context: Context, refusal: CallRefusal) -> Never:
    """End the call with the status. Raises what ends its handler: grpc's AbortError, or CancelledError.

    The latter when the caller has gone, or reads nothing, not even this: gRPC keeps the status for him, we nothing.
    """
    away = refusal.code is grpc.StatusCode.UNAVAILABLE
    REQUESTS.labels(NAME, "unavailable" if away else "rejected").inc()
    if not away:
        REJECTED.labels(NAME, refusal.reason).inc()
    detail = printable(refusal.detail, DETAIL_MAX)
    try:
        async with asyncio.timeout(SAY_SECONDS):
            await context.abort(refusal.code, detail, refusal.trailing_metadata)
    except (TimeoutError, aio.InternalError):
        raise asyncio.CancelledError from None


def _status_details(code: int, message: str, seconds: float) -> bytes:
    """A google.rpc.Status with a RetryInfo; both are not in protobuf itself, and this small."""
    delay = Duration()
    delay.FromMilliseconds(max(1, round(1000 * seconds)))
    detail = AnyMessage(type_url=_RETRY_INFO, value=_field(1, delay.SerializeToString()))
    return b"\x08" + _varint(code) + _field(2, message.encode()) + _field(3, detail.SerializeToString())


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])
