"""Bytes from the MQTT 5 broker -> packets; linear in the bytes read, whatever the chunks; no I/O.

PUBLISH is taken apart here, all other packets by mqtt5 (Rust). mqtt5 panics on text that is not UTF-8, which in a
PUBLISH any device may send; and it says "not enough bytes" both for half a packet and for a whole one whose inner
lengths lie, so frames are cut here.
"""

from typing import Any, TypeAlias

import mqtt5
from msgspec import Struct

from app.errors import WireError
from app.gateways.mqtt.properties import user_properties


class Publish(Struct, frozen=True, gc=False):
    """A message as it was published."""

    topic: str
    payload: bytes
    packet_id: int  # 0: QoS 0, wants no PUBACK
    properties: list[tuple[str, str]]  # MQTT 5 user properties
    again: bool = False  # DUP: it was sent before, perhaps to a bridge that died
    retained: bool = False  # RETAIN: it lay at the broker when the subscription was made; live ones come without


class MalformedPublish(Struct, frozen=True, gc=False):
    """A PUBLISH whose topic or properties are not valid, but whose payload and packet id can be read.

    A broker that checks nothing passes such a packet on, and sends it again on every reconnect: refusing it would
    stop the bridge for good. So it is a value, to be forwarded as it is, and not an error.
    """

    topic: bytes
    payload: bytes
    packet_id: int
    again: bool = False
    retained: bool = False


Item: TypeAlias = Publish | MalformedPublish | Any  # Any: a control packet of mqtt5


class Reader:
    """Cuts a byte stream into packets. After a WireError the connection must be closed and the reader thrown away."""

    def __init__(self, max_packet_bytes: int) -> None:
        """`max_packet_bytes` is what this bridge announced to the broker."""
        self._max = max_packet_bytes
        self._rest = bytearray()
        self._need = 0

    def feed(self, data: bytes) -> list[Item]:
        """The packets completed by `data`, in order. Raises WireError on what is no MQTT 5."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data, self._rest = bytes(self._rest), bytearray()
        found: list[Item] = []
        at, end = 0, len(data)
        while at < end:
            body, stop = frame(data, at, self._max)
            if stop > end:
                self._rest, self._need = bytearray(memoryview(data)[at:]), stop - at
                break
            found.append(_message(data, at, body, stop) if data[at] >> 4 == 3 else _control(data[at:stop]))
            at = stop
        return found


def frame(data: bytes, at: int, max_bytes: int) -> tuple[int, int]:
    """Where the body of the packet at `at` begins, and where it ends; an end beyond the data while that is not known.

    Raises WireError for a malformed length or a packet above `max_bytes`, before anything of that size is kept.
    """
    remaining = shift = 0
    for index in range(at + 1, at + 5):
        if index >= len(data):
            return index, len(data) + 1
        remaining |= (data[index] & 0x7F) << shift
        if data[index] < 0x80:
            stop = index + 1 + remaining
            if stop - at > max_bytes:
                raise WireError(f"a packet of {stop - at} bytes; this bridge announced at most {max_bytes}")
            return index + 1, stop
        shift += 7
    raise WireError("a remaining length of more than four bytes")


def _message(data: bytes, at: int, body: int, stop: int) -> Publish | MalformedPublish:
    """A PUBLISH; lengths that do not fit its frame raise WireError, as no packet id could be trusted."""
    qos = data[at] & 0x06
    if qos > 0x02:
        raise WireError("a QoS 2 message on a QoS 1 subscription")
    topic_end = body + 2 + int.from_bytes(data[body : body + 2], "big")
    ids_end = topic_end + 2 if qos else topic_end
    packet_id = int.from_bytes(data[topic_end:ids_end], "big")
    if ids_end >= stop or (qos and not packet_id):
        raise WireError("a malformed PUBLISH: its topic, packet id and properties do not fit into the packet")
    properties: list[tuple[str, str]] | None = []
    payload_at = ids_end + 1
    if data[ids_end]:  # length of the properties; 0 for nearly every message
        properties, payload_at = user_properties(data, ids_end, stop)
    payload = data[payload_at:stop]
    topic = data[body + 2 : topic_end]
    again, retained = data[at] & 0x08 != 0, data[at] & 0x01 != 0
    if properties is not None and topic:
        try:
            return Publish(topic.decode(), payload, packet_id, properties, again, retained)
        except UnicodeDecodeError:
            pass
    return MalformedPublish(topic, payload, packet_id, again, retained)


def _control(packet: bytes) -> Any:
    try:
        found, size = mqtt5.read(memoryview(packet))
    except (IndexError, ValueError) as wrong:
        raise WireError(f"a malformed packet: {wrong}") from None
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":  # a BaseException of the codec; it cannot be imported
            raise
        raise WireError("a malformed packet: text that is not UTF-8") from None
    if size != len(packet):
        raise WireError("a malformed packet: its length does not fit its content")
    return found
