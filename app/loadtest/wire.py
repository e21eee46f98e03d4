"""MQTT 5 as a sender of QoS 1 needs it: PUBLISH out, PUBACK in, the rest by mqtt5 (Rust). No I/O.

A library that keeps an object for each message costs some 100 us each; this costs some 10.
"""

from typing import Any, NamedTuple

import mqtt5

from app.errors import WireError
from app.mqtt.frames import control_packet, frame

PUBACK = 0x40
DUP = 0x08
PINGREQ = b"\xc0\x00"
PACKET_MAX = 1 << 16  # bytes of a packet of the broker: we subscribe to nothing
IDS = 65_535  # packet ids are 1 to this


class Puback(NamedTuple):
    """The broker's answer to a message."""

    packet_id: int
    code: int  # from 0x80 on a refusal


def connect(client_id: str, username: str | None, password: str | None, keep_alive: int, kept_seconds: int) -> bytes:
    """A CONNECT that goes on with the session of `client_id`, which the broker keeps for so long."""
    made = mqtt5.ConnectPacket(
        client_id,
        username=username,
        password=password.encode() if password is not None else None,
        clean_start=False,
        keep_alive=keep_alive,
        session_expiry_interval=kept_seconds,
        topic_alias_max=0,
    )
    return bytes(made.write())


def farewell() -> bytes:
    """A DISCONNECT that ends the session as well."""
    return bytes(mqtt5.DisconnectPacket(session_expiry_interval=0).write())


def packet_id(sequence: int) -> int:
    """The packet id of a device's reading: those of a window are all different."""
    return (sequence - 1) % IDS + 1


def topic_field(topic: str) -> bytes:
    """A topic as it stands in a PUBLISH. Raises ValueError for one that is too long."""
    text = topic.encode()
    if len(text) > IDS:
        raise ValueError(f"a topic of {len(text)} bytes")
    return len(text).to_bytes(2, "big") + text


def traceparent_field(traceparent: bytes) -> bytes:
    """The properties of a PUBLISH with one user property, `traceparent`, which has at most 100 bytes."""
    found = b"\x26\x00\x0btraceparent" + len(traceparent).to_bytes(2, "big") + traceparent
    return bytes([len(found)]) + found


NO_PROPERTIES = b"\x00"


def publish(topic: bytes, number: int, payload: bytes, properties: bytes = NO_PROPERTIES) -> bytes:
    """A PUBLISH at QoS 1; `topic` and `properties` are fields of the functions above, `number` the packet id."""
    size = len(topic) + 2 + len(properties) + len(payload)
    if size < 128:
        head = bytes((0x32, size))
    elif size < 16_384:
        head = bytes((0x32, size & 0x7F | 0x80, size >> 7))
    else:
        head = bytes((0x32, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14))
    return b"".join((head, topic, number.to_bytes(2, "big"), properties, payload))


def again(packet: bytes) -> bytes:
    """The same PUBLISH, marked as one that may have arrived before."""
    return bytes((packet[0] | DUP,)) + packet[1:]


class PacketCutter:
    """Cuts what a broker sends into packets, whatever the chunks. After a WireError it must be thrown away."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:
        """The packets that `data` completes, in order: Puback, or those of mqtt5. Raises WireError."""
        if self._rest:
            data = self._rest + data
        found: list[Any] = []
        at, end = 0, len(data)
        while end - at >= 2:
            if data[at] == PUBACK and data[at + 1] == 2:  # nearly all of them
                if end - at < 4:
                    break
                found.append(Puback(data[at + 2] << 8 | data[at + 3], 0))
                at += 4
                continue
            body, stop = frame(data, at, PACKET_MAX)
            if stop > end:
                break
            found.append(_packet(data[at:stop], body - at))
            at = stop
        self._rest = data[at:]
        return found


def _packet(packet: bytes, body: int) -> Any:
    """A packet whose body begins at `body`. PUBACK is read here: mqtt5 refuses reason codes that it does not know."""
    if packet[0] != PUBACK:
        return control_packet(packet)
    content = packet[body:]
    if len(content) < 2:
        raise WireError("a malformed PUBACK")
    return Puback(content[0] << 8 | content[1], content[2] if len(content) > 2 else 0)
