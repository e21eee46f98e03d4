"""One MQTT 5 connection of a device: CONNECT, CONNACK, then readings out and PUBACKs in. No retries."""

import asyncio
import ssl
from typing import Any, cast

import mqtt5
from msgspec import Struct

from app.errors import PermanentError, TransientError, WireError
from app.loadtest import wire
from app.loadtest.device import LoadDevice
from app.runtime.addresses import HostPort
from app.runtime.tls import words

KEEP_ALIVE = 60  # seconds
SESSION_SECONDS = 3600  # the broker keeps what a device has sent and not finished so long, over its reconnects
CONNACK_SECONDS = 10.0
# CONNACK codes that no waiting changes; the others say that the broker is busy or not well.
_FINAL = (0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x90, 0x95, 0x9A, 0x9B)


class LoadBroker(Struct, frozen=True):
    """Where to send, and as whom."""

    host: str
    port: int
    username: str | None  # of all devices; None: each device has the account of its user
    password: str | None
    tls: ssl.SSLContext | None  # None: not encrypted

    def __str__(self) -> str:
        return f"the MQTT broker at {HostPort(self.host, self.port)}"

    def __repr__(self) -> str:
        return f"LoadBroker({self})"


class DeviceConnection(asyncio.Protocol):
    """`accepted` resolves once the broker lets the device in, `closed` with the reason once the connection is gone.

    `accepted` raises PermanentError when the broker refuses the account, TransientError when it does not let the device
    in now.
    """

    def __init__(self, device: LoadDevice, username: str | None, password: str | None) -> None:
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self._device, self._username, self._password, self._loop = device, username, password, loop
        self._cutter = wire.PacketCutter()
        self._transport: asyncio.Transport | None = None
        self._reason = "the broker closed the connection"
        self._heard = loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT (asyncio.Protocol)."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(
            wire.connect(self._device.name, self._username, self._password, KEEP_ALIVE, SESSION_SECONDS)
        )

    def data_received(self, data: bytes) -> None:
        """Hand PUBACKs to the device (asyncio.Protocol); what is no MQTT 5 ends the connection."""
        self._heard = self._loop.time()
        try:
            packets = self._cutter.feed(data)
        except WireError as error:
            self.abort(f"the broker sends what is no MQTT 5: {error}")
            return
        answers: list[wire.Puback] = []
        for packet in packets:
            if type(packet) is wire.Puback:
                answers.append(packet)
            else:
                self._control(packet)
        if answers:
            self._device.answered(answers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Resolve `closed` (asyncio.Protocol)."""
        self._device.lost()
        reason = words(exc, "the broker", "IOT_MQTT") if exc else self._reason
        if not self.accepted.done():
            self.accepted.set_exception(TransientError(reason))
            self.accepted.exception()  # retrieved: nobody may be waiting any more
        self.closed.set_result(reason)

    def ping(self, now: float, silent: float) -> None:
        """Ask for a sign of life; close where there was none for `silent` seconds. `now` is the event loop's time."""
        if now - self._heard > silent:
            self.abort(f"no answer of the broker for {silent:.0f} s")
        elif self._transport and now - self._heard > KEEP_ALIVE / 3:
            self._transport.write(wire.PINGREQ)

    def abort(self, reason: str) -> None:
        """Close at once, without a farewell."""
        self._reason = reason
        if self._transport:
            self._transport.abort()

    def close(self) -> None:
        """Say farewell, whereupon the broker forgets the session, and close."""
        if self._transport and not self.closed.done():
            self._reason = "stopped"
            self._transport.write(wire.farewell())
            self._transport.close()

    def _control(self, packet: Any) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket):
            self._connected(packet)
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self.abort(f"the broker disconnected: {packet.reason_code.name} {packet.reason_str or ''}".rstrip())
        elif not isinstance(packet, mqtt5.PingRespPacket):
            self.abort(f"an unexpected {type(packet).__name__} of the broker")

    def _connected(self, packet: "mqtt5.ConnAckPacket") -> None:
        if self.accepted.done():
            return
        code = packet.reason_code
        if code.value:
            said = f"{code.name} {packet.reason_str or ''}".strip()
            kind = PermanentError if code.value in _FINAL else TransientError
            self.accepted.set_exception(kind(said))
            self.accepted.exception()
            self.abort(said)
            return
        assert self._transport
        self.accepted.set_result(None)
        self._device.connected(self._transport.write, packet.receive_max or 65_535, packet.session_present)


async def connected(broker: LoadBroker, device: LoadDevice, user: str, password: str | None) -> DeviceConnection:
    """A connection that the broker has accepted; `user` and `password` are the device's own, where the broker's account
    is not for all. Raises PermanentError when the broker refuses the account, TransientError when it is away or silent.
    """
    who = (broker.username, broker.password) if broker.username is not None or password is None else (user, password)
    loop = asyncio.get_running_loop()
    made: DeviceConnection | None = None
    try:
        async with asyncio.timeout(CONNACK_SECONDS):
            _, made = await loop.create_connection(
                lambda: DeviceConnection(device, *who), broker.host, broker.port, ssl=broker.tls
            )
            await asyncio.shield(made.accepted)
    except TimeoutError:
        if made:
            made.abort("no answer to CONNECT")
        raise TransientError(f"{broker} does not answer within {CONNACK_SECONDS:g} s") from None
    except asyncio.CancelledError:
        if made:
            made.abort("stopped")
        raise
    except OSError as error:  # ssl's errors are OSErrors
        raise TransientError(
            f"no way into {broker}: {words(error, 'the broker', 'IOT_MQTT')}; look at --host and --port"
        ) from error
    except PermanentError as error:
        name, cure = who[0] or "an anonymous client", "look at --username and --password-file"
        if broker.username is None and password is not None:
            cure = "does it ask this database for its accounts, as EMQX does? Else name an account with --username"
        raise PermanentError(f"{broker} refuses {name}: {error}; {cure}") from None
    except TransientError as error:
        raise TransientError(f"{broker} does not let {device.name} in: {error}") from None
    return made
