"""The place of one device: key and header of its Kafka records, encoded once."""

from msgspec import Struct

from app.kafka.encoding.varints import Header, encode_header, varint

HEADERS = 4  # headers of a record of a block: mqtt_topic, kind, ingest_ms and gateway


class Place(Struct, frozen=True, gc=False):
    """The place of one device. `front`, `back` and `size` as in app.kafka.encoding.runs.EncodedDevice."""

    key: bytes
    header: Header  # mqtt_topic
    topic: str
    way: str
    owner: str  # user or node
    device: str  # device or sensor
    front: bytes
    back: bytes
    size: int


def made_place(key: bytes, header: Header, topic: str, way: str, owner: str, device: str) -> Place:
    """The place of a device whose records have this key and first header."""
    front, back = varint(len(key)) + key, varint(HEADERS) + encode_header(header)
    return Place(key, header, topic, way, owner, device, front, back, len(front) + len(back))
