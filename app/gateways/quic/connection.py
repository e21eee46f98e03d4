"""aioquic's connection, bounded: windows that follow what was taken in, client certificates, the size of a handshake.

aioquic doubles a window whenever half of it was received, for as long as the connection lives, whether anybody takes
what comes or not: a sender of a gigabyte may be a gigabyte ahead. Here a window is so many bytes beyond what came, and
grows no further while `window()` is 0; so a sender that is held sends no more than was granted before.

Private parts of aioquic are used here and in mutual.py: tests/contract/gateways/quic/test_aioquic_internals.py watches
them.
"""

from collections.abc import Callable
from typing import NamedTuple

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    NetworkAddress,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography import x509
from OpenSSL import crypto

from app.gateways.quic.mutual import MutualContext, require_client_certificate
from app.gateways.quic.reset import ResetTokens

# Of one level of the handshake. A client sends its hello and its certificates: three of RSA with 4096 bits are 6 kB.
HANDSHAKE_BYTES = 64 << 10
# Pieces of a stream that came with gaps between them. Each is looked at whenever another comes; packets that were lost
# or overtaken leave a few, and only who means it leaves hundreds.
MOST_GAPS = 256
FIRST_BYTES = 64 << 10  # granted before the connection's account is known
BACKLOG_BYTES = 64 << 10  # acks that the peer does not take: while there are more, it may send nothing


class ServerParts(NamedTuple):
    """What all connections of a gateway share, beside their configuration."""

    trusted: crypto.X509Store  # CAs of clients
    tokens: ResetTokens
    streams: int  # of one connection, open at the same time


class GatewayConnection(QuicConnection):
    """A connection of a client, on the server's side."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        server: ServerParts,
        connection_ids: tuple[bytes, bytes | None],
        window: Callable[[], int],
    ) -> None:
        """`connection_ids`: the one the client chose, and that of our retry. `window`: bytes granted ahead; 0: none."""
        original, retried = connection_ids
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
        )
        self.starved = False  # it was not granted what it might have had, and is granted more when there is room
        self._server, self._window, self._granted = server, window, 0
        self._give_tokens()
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = server.streams
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = 0
        self._local_max_data.value = self._local_max_data.sent = FIRST_BYTES
        self._local_max_stream_data_bidi_remote = FIRST_BYTES

    @property
    def begun(self) -> bool:
        """Whether a packet of the client could be read at all."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def client_certificate(self) -> x509.Certificate | None:
        """The client's certificate; None until it is verified, which is before the handshake is complete."""
        context = getattr(self, "tls", None)  # there is one from the first packet on
        return context.client_certificate if isinstance(context, MutualContext) else None

    @property
    def backlog(self) -> int:
        """Bytes written to streams that the peer has not acknowledged."""
        return sum([len(stream.sender._buffer) for stream in self._streams.values()])

    def writable(self, stream_id: int) -> bool:
        """Whether the peer still reads what is written to this stream."""
        stream = self._streams.get(stream_id)
        return stream is not None and stream.sender._reset_error_code is None and stream.sender._buffer_fin is None

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        """Take a datagram as aioquic does, but nothing any more once a close is on its way."""
        if not self._close_pending:
            super().receive_datagram(data, addr, now)

    def settle(self) -> None:
        """Give back what only the handshake needs, 48 kB; to be called when it is complete."""
        self._crypto_buffers = {}

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        require_client_certificate(self.tls, self._server.trusted)

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        self._give_tokens()

    def _give_tokens(self) -> None:
        """Tokens that a restart of the gateway knows as well, in the place of random ones."""
        for one in self._host_cids:
            one.stateless_reset_token = self._server.tokens.token(one.cid)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        begin = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(begin)
        if end > HANDSHAKE_BYTES:
            raise QuicConnectionError(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "a handshake of too many bytes")
        super()._handle_crypto_frame(context, frame_type, buf)

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        begin = buf.tell()
        stream = self._streams.get(buf.pull_uint_var())
        buf.seek(begin)
        if stream is not None and len(stream.receiver._ranges) > MOST_GAPS:
            raise QuicConnectionError(QuicErrorCode.INTERNAL_ERROR, frame_type, "a stream in too many pieces")
        super()._handle_stream_frame(context, frame_type, buf)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        data, streams = self._local_max_data, self._local_max_streams_bidi
        self._granted = self._window() if self.backlog <= BACKLOG_BYTES else 0  # of all streams in this packet
        self.starved = not self._granted
        if self._granted:
            data.value = slide(data.used, data.value, self._granted)
            if data.value != data.sent:
                self._write_limit(builder, data)
        # aioquic's rule: streams are granted in batches, once fewer are left than there are to grant.
        if streams.sent - streams.used < streams.value - streams.sent:
            self._write_limit(builder, streams)

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        number = stream.stream_id
        if not self._granted or stream.receiver.is_finished or number is None:  # one without a number is the handshake
            return
        came, limit = stream.receiver.highest_offset, stream.max_stream_data_local
        stream.max_stream_data_local = slide(came, limit, self._granted)
        if stream.max_stream_data_local != stream.max_stream_data_local_sent:
            buf = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buf.push_uint_var(number)
            buf.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _write_limit(self, builder: QuicPacketBuilder, limit: Limit) -> None:
        buf = builder.start_frame(
            limit.frame_type,
            capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
            handler=self._on_connection_limit_delivery,
            handler_args=(limit,),
        )
        buf.push_uint_var(limit.value)
        limit.sent = limit.value


def slide(used: int, limit: int, window: int) -> int:
    """The limit on bytes of which `used` came: `window` beyond them, in steps of half of it; it never goes back."""
    return used + window if limit - used < window // 2 else limit
