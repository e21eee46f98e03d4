"""What anybody who has reached the gateway may ask, without an account: grpc.health.v1 and reflection of the service.

Probes and grpcurl send no credentials. So there are few of these calls at a time, of one address a part, and they end
with the gateway.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection import aio as reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from app.errors import TransientError
from app.gateways.grpc.callers import TOO_MANY, Answer, CallSlots
from app.gateways.grpc.identity import peer_of
from app.gateways.grpc.refusal import CallRefusal, Context, next_message, refuse
from app.runtime.interrupt import Interrupt

HEALTH = "grpc.health.v1.Health"
# Two names of one protocol: who asks for the newer one falls back, and says so.
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
GUESTS = 128  # calls at a time that ask once
WATCHERS = 64  # calls at a time that stay: whoever holds them all holds up no probe
LOOK_SECONDS = 0.5  # how soon a watcher hears of a change
MESSAGE_SECONDS = 10.0
REFLECTION_SECONDS = 30.0
MALFORMED = CallRefusal(grpc.StatusCode.INVALID_ARGUMENT, "malformed", "the message is no such request")
UNKNOWN = CallRefusal(grpc.StatusCode.NOT_FOUND, "malformed", "there is no such service here")


class PublicServices:
    """The services of one gateway that need no account."""

    def __init__(self, service: str, serving: Callable[[], bool], stop: Interrupt) -> None:
        """`serving` is asked of the whole gateway (the name "") and of `service`; once `stop` is set, watchers hear
        that it is not serving, and their calls end.
        """
        self._known, self._serving, self._stop = ("", service), serving, stop
        self._guests, self._watchers = CallSlots(GUESTS, GUESTS // 2), CallSlots(WATCHERS, WATCHERS // 2)
        self._services = (service, HEALTH, *REFLECTION)
        self._reflection = reflection.ReflectionServicer(self._services)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """The handlers for gRPC's server. All messages are bytes."""
        unary: Any = grpc.stream_unary_rpc_method_handler  # its type is that of handlers without an event loop
        stream: Any = grpc.stream_stream_rpc_method_handler
        health = {"Check": unary(self._check), "Watch": stream(self._watch)}
        reflection = {"ServerReflectionInfo": stream(self._reflect)}
        return [
            grpc.method_handlers_generic_handler(HEALTH, health),
            *(grpc.method_handlers_generic_handler(name, reflection) for name in REFLECTION),
        ]

    async def _check(self, _: object, context: Context) -> bytes | None:
        async def answer() -> bytes | CallRefusal:
            name = await _asked_service(context)
            if isinstance(name, CallRefusal):
                return name
            return UNKNOWN if name not in self._known else self._status(name)

        return await _served(self._guests, context, answer)

    async def _watch(self, _: object, context: Context) -> None:
        async def answer() -> bytes | CallRefusal | None:
            name = await _asked_service(context)
            if isinstance(name, CallRefusal):
                return name
            said = b""
            while True:
                stopping = self._stop.is_set()  # a stop that comes while the status is written is written next
                if (status := self._status(name)) != said:
                    await context.write(status)
                    said = status
                if stopping:
                    return None
                await self._stop.pause(LOOK_SECONDS)

        await _served(self._watchers, context, answer)

    async def _reflect(self, _: object, context: Context) -> None:
        async def answer() -> CallRefusal | None:
            try:
                async with asyncio.timeout(REFLECTION_SECONDS):
                    return await self._stop.race(describe())
            except (TimeoutError, TransientError):
                return None

        async def describe() -> CallRefusal | None:
            while (data := await next_message(context)) is not None:
                request = _parsed(ServerReflectionRequest, data)
                if request is None:
                    return MALFORMED
                async for response in self._reflection.ServerReflectionInfo(_one(self._found(request)), context):
                    response.original_request.CopyFrom(request)
                    await context.write(response.SerializeToString())
            return None

        await _served(self._watchers, context, answer)

    def _found(self, request: Any) -> Any:
        """What is asked, for a name that is found: protobuf's pool knows no method by its name, but its service."""
        service = request.file_containing_symbol.rpartition(".")[0]
        return ServerReflectionRequest(file_containing_symbol=service) if service in self._services else request

    def _status(self, name: str) -> bytes:
        """A HealthCheckResponse."""
        status = HealthCheckResponse.SERVICE_UNKNOWN
        if name in self._known:
            well = self._serving() and not self._stop.is_set()
            status = HealthCheckResponse.SERVING if well else HealthCheckResponse.NOT_SERVING
        return bytes(HealthCheckResponse(status=status).SerializeToString())


async def _served(slots: CallSlots, context: Context, work: Callable[[], Awaitable[Answer]]) -> bytes | None:
    with slots.one(peer_of(context)) as free:
        answer = await work() if free else TOO_MANY
    return await refuse(context, answer) if isinstance(answer, CallRefusal) else answer


async def _asked_service(context: Context) -> str | CallRefusal:
    try:
        async with asyncio.timeout(MESSAGE_SECONDS):
            data = await next_message(context)
    except TimeoutError:
        return MALFORMED
    request = None if data is None else _parsed(HealthCheckRequest, data)
    return MALFORMED if request is None else str(request.service)


def _parsed(kind: Any, data: bytes) -> Any:
    """The message, or None for bytes that are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


async def _one(request: Any) -> AsyncIterator[Any]:
    yield request
