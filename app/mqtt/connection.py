"""One MQTT 5 connection for publishing with QoS 1: in, messages; out, what the broker says to each. No retries."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import cast

import mqtt5
from msgspec import Struct

from app.errors import TransientError
from app.runtime.addresses import HostPort
from app.runtime.tls import words

KEEP_ALIVE = 30  # seconds; a broker closes after 1.5 times this without a packet, and so do we
ACK_SECONDS = 30.0  # a broker that answers pings and no message for so long has lost one
REFUSED = 0x80  # reason codes from here on are refusals
AHEAD = 1000  # messages ahead of their PUBACKs, where the broker allows so many

Acked = Callable[[str | None], None]  # with the broker's words where it refuses the message


class BrokerAccount(Struct, frozen=True):
    """Where and as whom to publish."""

    host: str
    port: int
    client_id: str
    username: str | None  # None: anonymous
    password: str | None
    tls: ssl.SSLContext | None  # None: not encrypted

    def __repr__(self) -> str:
        return f"BrokerAccount({self.username} as {self.client_id} at {HostPort(self.host, self.port)})"


class NotTakenError(TransientError):
    """The broker does not let this account in; str() is the broker's reason."""


class Connection(asyncio.Protocol):
    """`accepted` resolves with the CONNACK, `closed` with the reason once the connection is gone.

    `accepted` raises NotTakenError when the broker refuses the account, TransientError when the connection ends before.
    Messages that are without a PUBACK then have no answer: whoever has sent them knows which. To be made within the
    event loop that it works in.
    """

    def __init__(self, account: BrokerAccount) -> None:
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.ahead = AHEAD  # how many messages may wait for their PUBACK
        self._largest = 0  # bytes of a packet; 0: no limit
        self._account, self._loop = account, loop
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, Acked] = {}
        self._last_id = 0
        self._buffer = b""
        self._heard = self._acked_at = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._reason = "connection lost"

    def publish(
        self, topic: str, payload: bytes, acked: Acked, properties: Sequence[tuple[str, str]] = ()
    ) -> str | None:
        """Send a message; returns None, or why not where it can never be sent. `acked` is called with the PUBACK: with
        None, or the broker's words where it refuses; never, where the connection ends first.

        `properties`, MQTT 5 user properties, are left out where the packet is too large for the broker with them. The
        caller has at most `ahead` messages without a PUBACK.
        """
        self._last_id = self._last_id % 65535 + 1
        try:
            packet = self._packet(topic, payload, properties)
            if properties and self._largest and len(packet) > self._largest:
                packet = self._packet(topic, payload, ())
        except ValueError as error:  # UnicodeEncodeError too
            return f"no MQTT message can be made of it: {error}"
        if self._largest and len(packet) > self._largest:
            return f"the broker takes packets of up to {self._largest} bytes, and this one has {len(packet)}"
        if not self._waiting:
            self._acked_at = self._loop.time()
        self._waiting[self._last_id] = acked
        if self._transport and not self.closed.done():
            self._transport.write(packet)
        return None

    def _packet(self, topic: str, payload: bytes, properties: Sequence[tuple[str, str]]) -> bytes:
        own, qos = list(properties), mqtt5.QoS.AT_LEAST_ONCE
        made = mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=self._last_id, user_properties=own)
        return cast(bytes, made.write())

    def close(self) -> None:
        """Send DISCONNECT and close, with the reason `stopped`; nothing is done for one that is closed."""
        if self._transport and not self.closed.done():
            self._reason = "stopped"
            self._transport.write(mqtt5.DisconnectPacket().write())
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once because of `reason`."""
        self._reason = reason
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT (asyncio.Protocol)."""
        self._transport = cast(asyncio.Transport, transport)
        account = self._account
        connect = mqtt5.ConnectPacket(
            client_id=account.client_id,
            username=account.username,
            password=account.password.encode() if account.password is not None else None,
            clean_start=True,  # what waits for its PUBACK is published anew
            keep_alive=KEEP_ALIVE,
            topic_alias_max=0,
        )
        self._transport.write(connect.write())

    def data_received(self, data: bytes) -> None:
        """Read packets and hand their answers to the senders (asyncio.Protocol); what is no MQTT 5 ends the
        connection.
        """
        self._heard = self._loop.time()
        self._buffer += data
        while self._buffer and not self.closed.done():
            try:
                packet, size = mqtt5.read(memoryview(self._buffer))
            except IndexError:
                return
            except ValueError as error:
                self.abort(f"the broker sends what is no MQTT 5 packet: {error}")
                return
            self._buffer = self._buffer[size:]
            self._received(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        """Resolve `closed` (asyncio.Protocol)."""
        if self._timer:
            self._timer.cancel()
        reason = f"{self._reason}: {words(exc, 'the MQTT broker', 'IOT_MQTT')}" if exc else self._reason
        self.closed.set_result(reason)
        if not self.accepted.done():
            self.accepted.set_exception(TransientError(reason))
            self.accepted.exception()  # retrieved: nobody may be waiting any more

    def _received(self, packet: object) -> None:
        if isinstance(packet, mqtt5.PubAckPacket):
            self._acked_at = self._loop.time()
            if acked := self._waiting.pop(packet.packet_id, None):
                code = packet.reason_code
                acked(f"{code.name} {packet.reason_str or ''}".strip() if code.value >= REFUSED else None)
        elif isinstance(packet, mqtt5.ConnAckPacket):
            self._connected(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self.abort(f"the broker disconnected: {packet.reason_code.name} {packet.reason_str or ''}".rstrip())
        elif not isinstance(packet, mqtt5.PingRespPacket):
            self.abort(f"an unexpected {type(packet).__name__}")

    def _connected(self, packet: "mqtt5.ConnAckPacket") -> None:
        if self.accepted.done():
            return
        if packet.reason_code.value >= REFUSED:
            self.accepted.set_exception(NotTakenError(f"{packet.reason_code.name} {packet.reason_str or ''}".strip()))
            self.abort("the broker refused the connection")
            return
        self.ahead = max(1, min(AHEAD, packet.receive_max or AHEAD))
        self._largest = packet.max_packet_size or 0
        self._timer = self._loop.call_later(KEEP_ALIVE / 2, self._tick)
        self.accepted.set_result(None)

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._heard > 1.5 * KEEP_ALIVE:
            self.abort(f"nothing heard from the broker for {1.5 * KEEP_ALIVE:.0f} s")
            return
        if self._waiting and now - self._acked_at > ACK_SECONDS:
            self.abort(f"no PUBACK for {ACK_SECONDS:.0f} s")
            return
        assert self._transport
        self._transport.write(mqtt5.PingReqPacket().write())
        self._timer = self._loop.call_later(KEEP_ALIVE / 2, self._tick)
