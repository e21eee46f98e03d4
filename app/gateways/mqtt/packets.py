"""Bytes from the MQTT 5 broker -> packets; linear in the bytes read, whatever the chunks; no I/O.

PUBLISH is taken apart here, all other packets by mqtt5 (Rust), which panics on text that is not UTF-8; in a PUBLISH
any device may send such text.
"""

from typing import Any, TypeAlias

from msgspec import Struct

from app.errors import WireError
from app.gateways.mqtt.properties import user_properties
from app.mqtt.frames import control_packet, frame


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
            found.append(_message(data, at, body, stop) if data[at] >> 4 == 3 else control_packet(data[at:stop]))
            at = stop
        return found


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
