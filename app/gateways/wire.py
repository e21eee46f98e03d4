"""Bytes from the MQTT 5 broker -> packets; linear in the bytes read, whatever the chunks; no I/O.

The codec is mqtt5 (Rust). Three of its habits are dealt with here: it says "not enough bytes" both for half a packet
and for a whole one whose inner lengths lie; it panics (a BaseException) on text that is not UTF-8; it copies nothing.
"""

from typing import Any

import mqtt5
from msgspec import Struct

from app.errors import WireError

PUBLISH = 3  # packet type, the high half of the first byte
EXACTLY_ONCE = mqtt5.QoS.EXACTLY_ONCE


class Publish(Struct, frozen=True, gc=False):
    """A message as it was published."""

    topic: str
    payload: bytes
    packet_id: int  # 0: QoS 0, wants no PUBACK
    properties: list[tuple[str, str]]  # MQTT 5 user properties


class Damaged(Struct, frozen=True, gc=False):
    """A PUBLISH whose topic or properties are not valid, but whose payload and packet id can be told.

    A broker that checks nothing passes such a packet on, and sends it again on every reconnect: refusing it would
    stop the bridge for good. So it is a value, to be forwarded as it is, and not an error.
    """

    topic: bytes
    payload: bytes
    packet_id: int


Item = Publish | Damaged | Any  # Any: mqtt5's control packets


class Reader:
    """Cuts a byte stream into packets. After a WireError the connection must be closed and the reader thrown away."""

    def __init__(self, max_packet_bytes: int) -> None:
        self._max = max_packet_bytes
        self._rest = bytearray()
        self._need = 0

    def feed(self, data: bytes) -> list[Item]:
        """The packets completed by `data`, in order. Raises WireError on what is no MQTT 5."""
        buffer: bytes | bytearray = data
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            buffer, self._rest = self._rest, bytearray()
        found: list[Item] = []
        used = self._read(buffer, found)
        if used < len(buffer):
            self._rest = bytearray(memoryview(buffer)[used:])
            self._need = frame_size(self._rest, self._max)
        return found

    def _read(self, buffer: bytes | bytearray, found: list[Item]) -> int:
        """Append whole packets to `found`; returns the bytes they took."""
        view, at, end = memoryview(buffer), 0, len(buffer)
        while at < end:
            try:
                packet, size = mqtt5.read(view[at:])
            except IndexError as short:
                size = frame_size(view[at : at + 5], self._max)
                if at + size > end:
                    break
                packet = _salvage(view[at : at + size], str(short))
            except ValueError as wrong:
                size = frame_size(view[at : at + 5], self._max)
                packet = _salvage(view[at : at + size], str(wrong))
            except BaseException as panic:
                if type(panic).__name__ != "PanicException":
                    raise
                size = frame_size(view[at : at + 5], self._max)
                packet = _salvage(view[at : at + size], "text that is not UTF-8")
            if type(packet) is mqtt5.PublishPacket:
                packet = _publish(packet)
            found.append(packet)
            at += size
        return at


def frame_size(head: bytes | bytearray | memoryview, max_bytes: int) -> int:
    """Size of the packet that starts with `head`; one more than len(head) while that cannot be told yet.

    Raises WireError for a malformed length or one above `max_bytes`, before anything of that size is kept.
    """
    remaining = 0
    for index in range(1, 5):
        if index >= len(head):
            return len(head) + 1
        remaining |= (head[index] & 0x7F) << (7 * (index - 1))
        if head[index] < 0x80:
            size = 1 + index + remaining
            if size > max_bytes:
                raise WireError(f"a packet of {size} bytes; this bridge announced at most {max_bytes}")
            return size
    raise WireError("a remaining length of more than four bytes")


def _publish(packet: Any) -> Publish:
    if packet.qos == EXACTLY_ONCE:
        raise WireError("a QoS 2 message on a QoS 1 subscription")
    if packet.topic_alias is not None or not packet.topic:
        raise WireError("a topic alias, though none was allowed")
    return Publish(packet.topic, packet.payload, packet.packet_id or 0, packet.user_properties)


def _salvage(frame: memoryview, problem: str) -> Damaged:
    """Take a malformed PUBLISH apart. Raises WireError for another type, and when lengths do not fit."""
    if len(frame) == 0 or frame[0] >> 4 != PUBLISH or frame[0] & 0x06 == 0x06:
        raise WireError(f"a malformed packet: {problem}")
    body = bytes(frame[next(i for i in range(1, 5) if frame[i] < 0x80) + 1 :])
    topic_end = 2 + int.from_bytes(body[:2], "big")
    ids_end = topic_end + 2 if frame[0] & 0x06 else topic_end
    packet_id = int.from_bytes(body[topic_end:ids_end], "big")
    length, index = 0, ids_end
    for shift in (0, 7, 14, 21):
        if index >= len(body):
            raise WireError(f"a malformed PUBLISH: {problem}")
        length |= (body[index] & 0x7F) << shift
        index += 1
        if body[index - 1] < 0x80:
            break
    unusable = frame[0] & 0x06 and not packet_id
    if index + length > len(body) or topic_end <= 2 or unusable or frame[0] & 0x06 == 0x04:
        raise WireError(f"a malformed PUBLISH: {problem}")
    return Damaged(body[2:topic_end], body[index + length :], packet_id)
