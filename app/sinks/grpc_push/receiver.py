"""The receiver of a grpc sink: settings in; streams to the receiver out, and the verdict on a failed stream."""

from collections.abc import Mapping
from typing import Any

import grpc
from grpc import aio

from app.errors import PermanentError
from app.protobuf.ingest_pb2_grpc import IngestStub
from app.protobuf.receiver_pb2_grpc import ReceiverStub
from app.runtime.protobuf.implementation import require_upb
from app.runtime.rpc.channel import ClientCredentials, open_channel
from app.runtime.rpc.failed_call import is_too_large, lost_status, status_of, wanted_pause, was_cut, words
from app.settings import Settings
from app.sinks.grpc_push.push_stream import MessageOf, PushStream
from app.sinks.port import SinkMisconfigured, SinkUnavailable
from app.sinks.pushing.answer import BatchRefused, FailedOver, said
from app.sinks.pushing.lane import PushLane

END_SECONDS = 5.0  # for the receiver to end an empty stream
_Code = grpc.StatusCode
REFUSED = frozenset({_Code.INVALID_ARGUMENT, _Code.OUT_OF_RANGE})
FAILED = frozenset({_Code.UNKNOWN, _Code.INTERNAL})  # the status of a handler that raised
CREDENTIALS = "look at IOT_GRPC_PUSH_TOKEN, or at the certificate"
CURES: Mapping[grpc.StatusCode, str] = {
    _Code.UNAUTHENTICATED: CREDENTIALS,
    _Code.PERMISSION_DENIED: CREDENTIALS,
    _Code.UNIMPLEMENTED: "look at IOT_GRPC_PUSH_SERVICE; without StreamMetrics, set IOT_GRPC_PUSH_NODES=events",
}


class PushReceiver:
    """One channel, used by one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected. Raises SinkMisconfigured when no target is set, PermanentError when protobuf has only
        its Python implementation.
        """
        require_upb()
        if settings.grpc_push_target is None:
            raise SinkMisconfigured("IOT_GRPC_PUSH_TARGET is not set: give host:port or unix:///path of the receiver")
        self._target, self._window = settings.grpc_push_target, settings.grpc_push_window
        self._seconds = settings.grpc_push_timeout
        self._stub = ReceiverStub if settings.grpc_push_service == "receiver" else IngestStub
        token = settings.grpc_push_token
        self._credentials = ClientCredentials(
            token=token.get_secret_value() if token else None,
            token_file=settings.grpc_push_token_file,
            ca_file=settings.grpc_push_ca_file,
            certificate_file=settings.grpc_push_certificate_file,
            key_file=settings.grpc_push_key_file,
            server_name=settings.grpc_push_server_name,
            tls=settings.grpc_push_tls or None,
        )
        self._channel: aio.Channel | None = None
        self._calls: Any = None  # the stub of the channel
        self._opened = False  # at least once

    async def open(self) -> None:
        """Reconnect, and read the files again. Raises SinkMisconfigured when a file or the target is invalid, at a
        later call SinkUnavailable.
        """
        await self.close()
        try:
            self._channel = open_channel(self._target, self._credentials, "receiver")
        except PermanentError as error:
            raise (SinkUnavailable if self._opened else SinkMisconfigured)(f"IOT_GRPC_PUSH_*: {error}") from None
        self._opened, self._calls = True, self._stub(self._channel)

    async def ask(self, method: str) -> None:
        """Return when the receiver accepts an empty stream. Raises SinkUnavailable."""
        stream = PushStream(self._call(method), PushLane(1, 1), _no_message, 1, END_SECONDS)
        try:
            await stream.run()
        except grpc.RpcError as error:
            raise unavailable(error) from None

    def stream(self, method: str, lane: PushLane, message_of: MessageOf) -> PushStream:
        """A stream for the batches of the lane. Raises SinkUnavailable when no call can be made."""
        return PushStream(self._call(method), lane, message_of, self._window, self._seconds)

    async def close(self) -> None:
        """End all calls and close the connection; safe before `open`, and twice."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _call(self, method: str) -> Any:
        if self._channel is None:
            raise SinkUnavailable("not connected")
        try:
            return getattr(self._calls, method)(metadata=self._credentials.metadata())
        except PermanentError as error:  # the file of the token
            raise SinkUnavailable(str(error), cure="look at IOT_GRPC_PUSH_TOKEN_FILE") from None


def verdict(error: grpc.RpcError) -> BatchRefused | FailedOver | None:
    """The verdict of a stream's status on the batches in flight; None: no verdict, the receiver is unavailable."""
    why = said(f"the receiver ends the stream: {words(error)}")
    if status_of(error) in REFUSED or is_too_large(error):
        return BatchRefused(why)
    if status_of(error) in FAILED and not was_cut(error) and not lost_status(error):
        return FailedOver(why)
    return None


def unavailable(error: grpc.RpcError) -> SinkUnavailable:
    """The exception for a call that ended with this error."""
    why = said(f"the receiver does not take readings: {words(error)}")
    return SinkUnavailable(why, cure=CURES.get(status_of(error), ""), retry_after=wanted_pause(error) or 0.0)


def _no_message(_: object) -> Any:
    raise AssertionError("an empty lane has no batches")
