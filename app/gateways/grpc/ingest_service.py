"""The service Ingest of proto/ingest.proto: in, calls; out, answers, each only after Kafka's ack of what it speaks for.

    1 who calls, and how many calls he has under way                   (callers, identity, credentials)
    2 wait until there is room                                         (pushing; streams: stream)
    3 read the message
    4 records, limits, on their way to Kafka                           (taking)
    5 Kafka has acknowledged all of them: the answer

A unary call is served as a stream of one message, which is the same on the wire: gRPC's own unary handler reads the
message before anybody has asked who sends it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from app.gateways.grpc.callers import Callers
from app.gateways.grpc.health_answer import HealthAnswer
from app.gateways.grpc.pushing import Pushing
from app.gateways.grpc.refusal import Context
from app.gateways.grpc.stream import Streams
from app.gateways.grpc.taking import EVENTS, METRICS, BatchForm

SERVICE = "iot_stream.ingest.v1.Ingest"

_Handler = Callable[[object, Context], Awaitable[bytes | None]]


class IngestService:
    """The service of one gateway."""

    def __init__(self, callers: Callers, pushing: Pushing, streams: Streams, health: HealthAnswer) -> None:
        self._callers, self._pushing, self._streams, self._health = callers, pushing, streams, health

    def handlers(self) -> grpc.GenericRpcHandler:
        """The handlers for gRPC's server. All messages are bytes."""
        unary: Any = grpc.stream_unary_rpc_method_handler  # its type is that of handlers without an event loop
        stream: Any = grpc.stream_stream_rpc_method_handler
        methods = {
            "GetHealth": unary(self._get_health),
            "Flush": unary(self._flush),
            "PushMetrics": unary(self._push(METRICS)),
            "PushEvents": unary(self._push(EVENTS)),
            "StreamMetrics": stream(self._stream(METRICS)),
            "StreamEvents": stream(self._stream(EVENTS)),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _get_health(self, _: object, context: Context) -> bytes | None:
        return await self._callers.serve_anybody(context, self._health.answer)

    async def _flush(self, _: object, context: Context) -> bytes | None:
        return await self._callers.serve_anybody(context, self._pushing.flush)

    def _push(self, form: BatchForm) -> _Handler:
        async def push(_: object, context: Context) -> bytes | None:
            return await self._callers.serve(context, lambda account: self._pushing.push(context, form, account))

        return push

    def _stream(self, form: BatchForm) -> _Handler:
        async def stream(_: object, context: Context) -> None:
            await self._callers.serve(
                context,
                lambda account: self._streams.serve(context, form, account, lambda: self._callers.account(context)),
            )

        return stream
