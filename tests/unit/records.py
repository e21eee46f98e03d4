"""Records for tests, and the whole way from a record to its reading."""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.arrival import arrived_ms
from app.core.model.records import Reading, Rejected
from app.core.routing.address import Address, address_of
from tests import DEFAULT

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
NOW_MS = 1_795_230_000_000
TOPIC = "users/u1/devices/d1/telemetry"
GOOD = (
    b'{"time":"2026-11-21T02:00:00.123Z","user_id":"u1","device_id":"d1","sequence_id":7,'
    b'"temperature":21.5,"battery":80,"humidity":41.20}'
)

_decoder = Decoder(DecodeLimits(), DEFAULT)


class Message(Struct):
    """A record as the consumer gives it."""

    value: bytes | None = GOOD
    headers: Sequence[tuple[str, bytes]] = (("mqtt_topic", TOPIC.encode()), ("kind", b"telemetry"))
    key: bytes | None = b"u1/d1"
    timestamp: int = NOW_MS
    offset: int = 42


def read(record: Message, now: datetime = NOW, decoder: Decoder = _decoder) -> Reading | Rejected:
    """Route and decode."""
    address = address_of(record)
    if isinstance(address, Address):
        return decoder.decode(record, address, arrived_ms(record, int(now.timestamp() * 1000)))
    return address
