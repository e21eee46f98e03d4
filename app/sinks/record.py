"""One record of the input topic as a sink is given it: whose it is, what it says, and the bytes it was made of."""

from typing import Any, final

from msgspec import Struct

from app.core.model.records import Kind


@final
class SinkRecord(Struct, frozen=True, gc=False):
    """A record that passed decoding and the filters of a sink.

    `reading` is the struct of the schema in force (app.core.model.records.Reading, with its columns); None for a record
    that is no telemetry. Where a sink has a filter by field, `reading` and `payload` have the fields that passed alone.
    """

    topic: str
    partition: int
    offset: int
    ingest_ms: int  # when it came in (app.core.model.arrival), milliseconds since 1970
    kind: Kind
    user_id: str  # the user, or the node of iot/*
    device_id: str  # the device, or the sensor; empty for a record of no device
    key: str  # of the device, told from all others: `user/device`, `iot/node/sensor`; the user alone without a device
    reading: Any  # Reading | None
    payload: bytes  # as it was sent
    headers: Any  # Sequence[tuple[str, bytes]]
    source: Any  # app.core.model.records.Record: the original, for a dead letter
