"""One record of the input topic as a sink is given it: its owner, its reading, and its original bytes."""

from typing import Any, final

from msgspec import Struct

from app.core.model.records import Kind


@final
class SinkRecord(Struct, frozen=True, gc=False):
    """A record that passed decoding and the filters of a sink.

    `reading` is the struct of the configured schema (app.core.model.records.Reading, with its columns); None for a
    record that is not telemetry. With a filter by field, `reading` and `payload` have only the fields that passed.
    """

    topic: str
    partition: int
    offset: int
    ingest_ms: int  # time of arrival (app.core.model.arrival), milliseconds since 1970
    kind: Kind
    user_id: str  # the user, or the node of iot/*
    device_id: str  # the device, or the sensor; empty for a record without a device
    key: str  # of the device, unique: `user/device`, `iot/node/sensor`; the user alone without a device
    reading: Any  # Reading | None
    payload: bytes  # as it was sent
    headers: Any  # Sequence[tuple[str, bytes]]
    source: Any  # app.core.model.records.Record: the original, for a dead letter
