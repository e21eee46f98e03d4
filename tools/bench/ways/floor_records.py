"""The records and the writer of bare servers: items as their library decodes them in, records in JSON out.

Values that the items of a batch share are computed once.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import cache

import msgspec
from msgspec import Raw, Struct

from app.core.model.records import Kind
from app.gateways.record import IngestRecord
from app.protobuf.events_pb2 import Event
from app.protobuf.metrics_pb2 import Metric

WRITE = 0.003  # seconds per chunk; one chunk is in flight while the next chunk gathers


class _Ids(Struct, gc=False):
    user_id: str
    device_id: str


class _EventJson(Struct, gc=False):
    sequence_id: int
    timestamp: int
    temperature: float
    battery: int
    extra: Raw


class _MetricJson(Struct, gc=False):
    sequence_id: int
    timestamp: int
    value: float
    extra: Raw


_ids = msgspec.json.Decoder(_Ids).decode
_encode = msgspec.json.Encoder().encode
_KIND = ("kind", b"telemetry")
_TELEMETRY = Kind.TELEMETRY


class Sink:
    """A writer that takes WRITE seconds for all gathered records."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._busy = False

    def put(self, records: list[IngestRecord]) -> "asyncio.Future[None]":
        """Add records; a future that is done when the records are written."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        if not self._busy:
            self._write()
        return done

    def _write(self) -> None:
        chunk, self._waiting = self._waiting, []
        self._busy = True
        asyncio.get_running_loop().call_later(WRITE, self._written, chunk)

    def _written(self, chunk: "list[asyncio.Future[None]]") -> None:
        for done in chunk:
            if not done.done():
                done.set_result(None)
        self._busy = False
        if self._waiting:
            self._write()


def of_lines(lines: Sequence[bytes], way: bytes) -> list[IngestRecord]:
    """The records of JSON events."""
    now, last = _now(way)
    records = []
    for line in lines:
        ids = _ids(line)
        key, header = _device("users/{}/devices/{}/telemetry", ids.user_id, ids.device_id)
        records.append(IngestRecord(_TELEMETRY, key, line, [header, *last], 0, now))
    return records


def of_events(events: Iterable[Event], way: bytes) -> list[IngestRecord]:
    """The records of an EventBatch."""
    now, last = _now(way)
    records = []
    for one in events:
        key, header = _device("users/{}/devices/{}/telemetry", one.user_id, one.device_id)
        value = _encode(_EventJson(one.sequence_id, one.time_us, one.temperature, one.battery, Raw(one.extra_json)))
        records.append(IngestRecord(_TELEMETRY, key, value, [header, *last], 0, now))
    return records


def of_metrics(metrics: Iterable[Metric], way: bytes) -> list[IngestRecord]:
    """The records of a MetricBatch."""
    now, last = _now(way)
    records = []
    for one in metrics:
        key, header = _device("iot/{}/{}/telemetry", one.node_id, one.sensor_id)
        value = _encode(_MetricJson(one.sequence_id, one.time_us, one.value, Raw(one.extra_json)))
        records.append(IngestRecord(_TELEMETRY, key, value, [header, *last], 0, now))
    return records


@cache  # a benchmark has few devices
def _device(topic: str, owner: str, device: str) -> tuple[bytes, tuple[str, bytes]]:
    """The key of a device, and the header with its topic."""
    return f"{owner}/{device}".encode(), ("mqtt_topic", topic.format(owner, device).encode())


def _now(way: bytes) -> tuple[int, list[tuple[str, bytes]]]:
    """(the time of a batch in milliseconds, the headers that its records share)."""
    now = time.time_ns() // 1_000_000
    return now, [_KIND, ("ingest_ms", b"%d" % now), ("gateway", way)]
