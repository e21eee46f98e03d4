"""One MQTT 5 connection: connects, subscribes, hands messages over, acks and keeps alive. No retries, no Kafka."""

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from typing import cast

import mqtt5
import structlog
from msgspec import Struct

from app.errors import TransientError, WireError
from app.gateways.mqtt.metrics import ACKED, DAMAGED
from app.gateways.mqtt.packets import MalformedPublish, Publish, Reader
from app.gateways.mqtt.records import to_record
from app.gateways.record import IngestRecord
from app.runtime.tls import words

log = structlog.get_logger()

KEEP_ALIVE = 30  # seconds; a broker closes after 1.5 times this without a packet, and so do we
PUBACK = 0x40020000  # a PUBACK "success" as one big-endian word: type, length 2, packet id
REFUSED = 0x80  # reason codes from here on are refusals
SUBSCRIBE_ID = 1  # client's packet ids are apart from the broker's; this client sends no other packet that needs one


class Login(Struct, frozen=True):
    """What the connection asks of the broker."""

    client_id: str
    username: str | None
    password: str | None
    filters: tuple[str, ...]  # as subscribed, with $share/<name>/ if they are shared
    receive_max: int  # messages the broker may send ahead of our acks
    session_expiry: int  # seconds
    max_packet: int  # bytes

    def __repr__(self) -> str:
        return f"Login({self.username} as {self.client_id})"


class MqttSession(asyncio.Protocol):
    """A connection and its MQTT session; `subscribed` and `closed` are its two futures.

    `subscribed` resolves once the broker grants every filter (True: it had kept the session), and raises TransientError
    when the connection ends before; `closed` resolves with the reason once the connection is gone.
    """

    def __init__(
        self,
        login: Login,
        deliver: Callable[[list[IngestRecord]], None],
        accepted: Callable[[bool], None] = lambda kept: None,
    ) -> None:
        """`deliver` gets the records of each read, in order; `accepted` hears, before any message, whether the broker
        had kept the session. To be made within the event loop.
        """
        loop = asyncio.get_running_loop()
        self.subscribed: asyncio.Future[bool] = loop.create_future()  # True: the broker had kept the session
        self.closed: asyncio.Future[str] = loop.create_future()
        self._login = login
        self._deliver, self._accepted = deliver, accepted
        self._reader = Reader(login.max_packet)
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._resumed = False
        self._keep_alive = KEEP_ALIVE
        self._heard = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._reason = "connection lost"

    @property
    def paused(self) -> bool:
        """Whether reading stands still because of `pause`."""
        return not self._reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT (asyncio.Protocol)."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        login = self._login
        connect = mqtt5.ConnectPacket(
            client_id=login.client_id,
            username=login.username,
            password=login.password.encode() if login.password is not None else None,
            clean_start=False,
            keep_alive=KEEP_ALIVE,
            session_expiry_interval=login.session_expiry,
            receive_max=login.receive_max,
            topic_alias_max=0,
            max_packet_size=login.max_packet,
        )
        self._transport.write(connect.write())

    def data_received(self, data: bytes) -> None:
        """Hand over the messages of this chunk at once; answer the rest (asyncio.Protocol)."""
        self._heard = asyncio.get_running_loop().time()
        try:
            items = self._reader.feed(data)
            messages: list[Publish | MalformedPublish] = []
            for item in items:
                if type(item) is Publish or type(item) is MalformedPublish:
                    messages.append(item)
                else:
                    self._control(item)
        except WireError as error:
            self.abort(str(error))
            return
        if messages:
            self._receive(messages)

    def connection_lost(self, exc: Exception | None) -> None:
        """Resolve `closed` (asyncio.Protocol)."""
        if self._timer:
            self._timer.cancel()
        reason = f"{self._reason}: {words(exc, 'the MQTT broker', 'IOT_MQTT')}" if exc else self._reason
        self.closed.set_result(reason)
        if not self.subscribed.done():
            self.subscribed.set_exception(TransientError(reason))
            self.subscribed.exception()  # retrieved: nobody may be waiting any more

    def ack(self, packet_ids: Sequence[int]) -> None:
        """Send PUBACKs in the given order, which must be that of receipt; on a lost connection this does nothing."""
        if self.closed.done() or self._transport is None or not packet_ids:
            return
        self._transport.write(struct.pack(f">{len(packet_ids)}I", *[PUBACK | number for number in packet_ids]))
        ACKED.inc(len(packet_ids))

    def pause(self) -> None:
        """Stop reading: the broker keeps what it cannot send. PINGREQ goes on."""
        if self._reading and self._transport and not self.closed.done():
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again after `pause`."""
        if not self._reading and self._transport and not self.closed.done():
            self._reading = True
            self._heard = asyncio.get_running_loop().time()
            self._transport.resume_reading()

    def disconnect(self) -> None:
        """Close after a DISCONNECT; the broker keeps the session and everything not acked."""
        if self._transport and not self.closed.done():
            self._reason = "stopped"
            self._transport.write(mqtt5.DisconnectPacket().write())
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once because of `reason`."""
        self._reason = reason
        if self._transport:
            self._transport.abort()

    def _receive(self, messages: list[Publish | MalformedPublish]) -> None:
        now_ms = int(time.time() * 1000)
        records = [to_record(message, now_ms) for message in messages]
        damaged = sum(type(message) is MalformedPublish for message in messages)
        if damaged:
            DAMAGED.inc(damaged)
            log.warning("bridge_damaged_message", count=damaged, note="forwarded as kind unknown")
        self._deliver(records)

    def _control(self, packet: object) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket):
            self._connected(packet)
        elif isinstance(packet, mqtt5.SubAckPacket):
            self._granted(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self.abort(f"the broker disconnected: {packet.reason_code.name} {self._said(packet.reason_str)}".rstrip())
        elif not isinstance(packet, mqtt5.PingRespPacket):
            raise WireError(f"an unexpected {type(packet).__name__}")

    def _connected(self, packet: "mqtt5.ConnAckPacket") -> None:
        if packet.reason_code.value >= REFUSED:
            what = (
                f"the broker refused the connection: {packet.reason_code.name} {self._said(packet.reason_str)}".rstrip()
            )
            who = self._login.username or "nobody"
            self.abort(f"{what}; account {who}: look at IOT_MQTT_USERNAME and IOT_MQTT_PASSWORD_FILE")
            return
        shared = any(pattern.startswith("$share/") for pattern in self._login.filters)
        if shared and not packet.shared_subscription_available:
            self.abort("the broker offers no shared subscriptions; with one bridge, set IOT_BRIDGE_SHARE=-")
            return
        self._resumed = packet.session_present
        self._accepted(packet.session_present)
        self._keep_alive = packet.server_keep_alive or KEEP_ALIVE
        self._timer = asyncio.get_running_loop().call_later(self._keep_alive / 2, self._tick)
        # Always, so that a lost or changed session never leaves the bridge deaf; on a kept one it changes nothing.
        wanted = [_subscription(pattern) for pattern in self._login.filters]
        assert self._transport
        self._transport.write(mqtt5.SubscribePacket(packet_id=SUBSCRIBE_ID, topic_filters=wanted).write())

    def _granted(self, packet: "mqtt5.SubAckPacket") -> None:
        refused = [
            f"{unshared(pattern)} ({code.name})"
            for pattern, code in zip(self._login.filters, packet.reason_codes, strict=False)
            if code.value >= REFUSED
        ]
        if refused:
            self.abort(
                f"the broker refused to let {self._login.username or 'anonymous'} subscribe: {', '.join(refused)}"
            )
        elif not self.subscribed.done():
            self.subscribed.set_result(self._resumed)

    def _said(self, reason: str | None) -> str:
        return (reason or "").replace(self._login.client_id, "(our client id)")  # which is a secret

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        if self._reading and loop.time() - self._heard > 1.5 * self._keep_alive:
            self.abort(f"nothing heard from the broker for {1.5 * self._keep_alive:.0f} s")
            return
        assert self._transport
        self._transport.write(mqtt5.PingReqPacket().write())
        self._timer = loop.call_later(self._keep_alive / 2, self._tick)


def _subscription(pattern: str) -> mqtt5.TopicFilter:
    """A filter at QoS 1. What the broker retains comes once, when the subscription is new, and bears the RETAIN flag.

    Live messages come without it (no "retain as published"), so that one that its device wants retained is news still.
    On a shared subscription MQTT 5 has brokers send nothing retained; Mosquitto 2.0 does all the same, with the flag.
    """
    return mqtt5.TopicFilter(
        pattern,
        max_qos=mqtt5.QoS.AT_LEAST_ONCE,
        retain_as_published=False,
        retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
    )


def unshared(pattern: str) -> str:
    """A filter without its share, whose name is a secret."""
    return pattern.split("/", 2)[2] if pattern.startswith("$share/") else pattern
