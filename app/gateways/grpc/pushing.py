"""A unary call with a batch, from its account to its ack: waits for room, reads it, and answers after Kafka's ack."""

import asyncio
from typing import NamedTuple

import grpc

from app.core.model.records import Reason
from app.errors import TransientError
from app.gateways.grpc.push_request import push_request
from app.gateways.grpc.refusal import CallRefusal, Context, next_message
from app.gateways.grpc.stream import STOPS
from app.gateways.grpc.taking import BatchForm, Taking
from app.gateways.intake import Intake, Refused
from app.ports import Account
from app.protobuf.ingest_pb2 import FlushResponse
from app.runtime.tracing.context import TRACEPARENT

RETRY_SECONDS = 1.0
FULL = CallRefusal(
    grpc.StatusCode.UNAVAILABLE,
    "full",
    "the gateway is full of records that Kafka has not acknowledged: Kafka is away, or behind",
    RETRY_SECONDS,
)
AHEAD = CallRefusal(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.RATE_LIMITED,
    "this account has as many bytes waiting for Kafka's ack as an account may have: wait for answers",
    RETRY_SECONDS,
)


class PushWaits(NamedTuple):
    """How long a call waits for what; seconds. A client's own deadline may be sooner."""

    message: float  # from one byte of a message to its last
    room: float
    ack: float


class Pushing:
    """The unary calls of one gateway."""

    def __init__(self, intake: Intake, taking: Taking, waits: PushWaits) -> None:
        self._intake, self._taking, self._waits = intake, taking, waits

    async def push(self, context: Context, form: BatchForm, account: Account) -> bytes | CallRefusal:
        """The bytes of the BatchAck, once Kafka has all that is accepted; or why the call is refused. Never raises but
        for a cancelled task.
        """
        if away := await self._no_room(account):
            return away
        data = await self._message(context)
        if isinstance(data, CallRefusal):
            return data
        request = push_request(data)
        if isinstance(request, str):
            return CallRefusal(grpc.StatusCode.INVALID_ARGUMENT, "malformed", request)
        taken = self._taking.take(account, form, request.batch, _traceparent(context))
        if isinstance(taken, CallRefusal):
            return taken
        if refusal := taken.refusal():
            return refusal
        if request.force_flush and isinstance(late := await self.flush(), CallRefusal):
            return late
        refused = await self._done(taken.written)
        return refused if isinstance(refused, CallRefusal) else taken.ack(refused)

    async def flush(self) -> bytes | CallRefusal:
        """The bytes of a FlushResponse, once Kafka has all that was taken before, from anybody; or why the call is
        refused.
        """
        waiting = self._intake.queue_depth
        done = await self._done(self._intake.flushed())
        return done if isinstance(done, CallRefusal) else FlushResponse(flushed=waiting).SerializeToString()

    async def _no_room(self, account: Account) -> CallRefusal | None:
        """Wait until another message of this account may be read; or in how long it is worth trying again."""
        try:
            async with asyncio.timeout(self._waits.room):
                await self._intake.room(account.user_id)
        except TimeoutError:
            return FULL if self._intake.full else AHEAD
        return None

    async def _message(self, context: Context) -> bytes | CallRefusal:
        try:
            async with asyncio.timeout(self._waits.message):
                data = await next_message(context)
        except TimeoutError:
            detail = f"the message has not come within {self._waits.message:g} s"
            return CallRefusal(grpc.StatusCode.DEADLINE_EXCEEDED, "slow", detail)
        if data is None:  # also of a message that is too large, whose status gRPC has sent
            return CallRefusal(grpc.StatusCode.INVALID_ARGUMENT, "malformed", "the call brought no whole message")
        return data

    async def _done(self, written: "asyncio.Future[Refused]") -> Refused | CallRefusal:
        """Kafka's answer, within the bound of time."""
        try:
            async with asyncio.timeout(self._waits.ack):
                return await written
        except TransientError:
            return STOPS
        except TimeoutError:
            detail = (
                f"Kafka has not acknowledged the batch within {self._waits.ack:g} s: send again, repeats are harmless"
            )
            return CallRefusal(grpc.StatusCode.UNAVAILABLE, "kafka", detail, RETRY_SECONDS)


def _traceparent(context: Context) -> bytes | None:
    """Of the caller's span; what is none is left out later."""
    for name, value in context.invocation_metadata() or ():
        if name == TRACEPARENT:
            return value if isinstance(value, bytes) else value.encode()
    return None
