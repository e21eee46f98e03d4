"""Records -> Kafka's record batch (magic 2, lz4), byte for byte as aiokafka's builder makes it, at a third of its cost.

aiokafka encodes each name of a header again and compresses at lz4's level 9. This encoder encodes the key and the topic
header of a device once and keeps them within a bound, and also the headers that a record shares with the record before.

RecordBatch stands in for aiokafka's BatchBuilder in `AIOKafkaProducer.send_batch`, which calls two of its methods by
private names; tests/contract/kafka/test_record_batch.py checks that aiokafka calls no other private methods.
"""

import struct
from collections.abc import Sequence
from typing import Any, Protocol

from aiokafka.codec import lz4_encode
from aiokafka.record.util import calc_crc32c

from app.kafka.encoding.runs import PARTS, Building, EncodableRun
from app.kafka.encoding.varints import OFFSETS, SHORT, SIZED, Header, encode_header, sized, varint

REMEMBERED_BYTES = 16 << 20  # 30,000 devices; a sender of random ids only makes the encoder clear this memory
ENTRY = 400  # bytes per device in addition to key and topic, by tracemalloc
LONGEST = 1024  # maximum bytes of a remembered topic or key
# aiokafka's level 9 takes ten times as long, 2 to 4 us per record instead of 0.2 to 0.4, for a fifth fewer bytes.
LEVEL = 1
LZ4 = 3  # in a batch's attributes
RESTS = 256  # maximum remembered lists of shared headers; a chunk of a connection uses a list for milliseconds
MOST_HEADERS = 16  # maximum headers of a record whose device is remembered
_BEFORE = struct.Struct(">qiibI")  # base offset, length, leader epoch, magic, crc
_AFTER = struct.Struct(">hiqqqhii")  # attributes, last offset, first and last time, producer id, epoch, sequence, count
HEAD_BYTES = _BEFORE.size + _AFTER.size


class EncodableRecord(Protocol):
    """The encoded parts of a record."""

    @property
    def key(self) -> bytes:
        """The record's key."""

    @property
    def value(self) -> bytes:
        """The record's value."""

    @property
    def headers(self) -> list[Header]:
        """The record's headers, at least one; the first header is that of the record's device."""

    @property
    def ingest_ms(self) -> int:
        """The record's time, in milliseconds since 1970."""


class RecordBatch:
    """A complete batch: aiokafka sets its producer id, epoch and sequence, and takes its bytes."""

    def __init__(self, records: bytes, count: int, first_ms: int, last_ms: int) -> None:
        """`records`: `count` records, encoded; the times are the first record's and the largest."""
        self._records, self._count, self._times = records, count, (first_ms, last_ms)
        self._producer = (-1, -1, 0)  # id, epoch, sequence
        self._made: bytes | None = None

    def record_count(self) -> int:
        """The number of records in the batch."""
        return self._count

    def size(self) -> int:
        """The batch's size in bytes, uncompressed until aiokafka has taken the bytes."""
        return HEAD_BYTES + len(self._records) if self._made is None else len(self._made)

    def closed(self) -> bool:
        """True: a complete batch accepts no records."""
        return True

    def close(self) -> None:
        """Do nothing: the batch is closed."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        """The bytes of the batch, compressed where compression makes the batch shorter."""
        if self._made is None:
            packed: bytes = lz4_encode(self._records, LEVEL)
            shorter = len(packed) < len(self._records)
            last = self._count - 1
            fields = (LZ4 if shorter else 0, last, *self._times, *self._producer, self._count)
            body = _AFTER.pack(*fields) + (packed if shorter else self._records)
            length = len(body) + HEAD_BYTES - _AFTER.size - 12  # bytes after the length field
            self._made = _BEFORE.pack(0, length, -1, 2, calc_crc32c(body)) + body
            self._records = b""
        return self._made


_Device = tuple[bytes, bytes, bytes, int]  # (key, encoded key, encoded header count and first header, their size)


class BatchEncoder:
    """Encodes batches and remembers the encoded keys and headers of devices."""

    def __init__(self) -> None:
        self._known: dict[int, dict[Header, _Device]] = {}  # by the number of headers
        self._bytes = 0
        self._rests: dict[tuple[Header, ...], bytes] = {}  # the encoded headers after the first

    def batch(self, records: Sequence[EncodableRecord], max_bytes: int) -> RecordBatch:
        """A batch of as many of the first records as take less than `max_bytes` before compression, at most SHORT.

        The batch has at least one record: a larger first record makes a batch alone.
        """
        building = Building(records[0].ingest_ms, max_bytes - HEAD_BYTES)
        self._add(building, records)
        return _made(building)

    def batch_of(self, segments: Sequence[EncodableRun | list[Any]], max_bytes: int) -> RecordBatch:
        """As `batch`, from runs and lists of records in order; no segment is empty."""
        first = segments[0]
        first_ms = first[0].ingest_ms if isinstance(first, list) else first.ingest_ms
        building = Building(first_ms, max_bytes - HEAD_BYTES)
        runs: list[EncodableRun] = []
        for segment in segments:
            if not isinstance(segment, list):
                runs.append(segment)
                continue
            building.add(runs)
            runs = []
            if building.room > 0 or not building.parts:
                self._add(building, segment)
        building.add(runs)
        return _made(building)

    def _add(self, building: Building, records: Sequence[EncodableRecord]) -> None:
        """Add as many of the first records as fit, at least one record to an empty batch."""
        parts, room, first_ms, last_ms = building.parts, building.room, building.first_ms, records[0].ingest_ms
        most_ms, stamp = max(building.most_ms, last_ms), b"\0" + varint(last_ms - first_ms)
        rest = records[0].headers[1:]
        tail, known = self._rest(rest), self._devices(rest)
        common, table = len(stamp) + len(tail), SIZED
        start = len(parts) // PARTS
        for record, (offset, width) in zip(records, OFFSETS[start:] if start else OFFSETS, strict=False):
            value, headers = record.value, record.headers
            if record.ingest_ms != last_ms:
                last_ms = record.ingest_ms
                most_ms, stamp = max(most_ms, last_ms), b"\0" + varint(last_ms - first_ms)
                common = len(stamp) + len(tail)
            if headers[1:] != rest:
                rest = headers[1:]
                tail, known = self._rest(rest), self._devices(rest)
                common = len(stamp) + len(tail)
            device = known.get(headers[0])
            if device is None or device[0] != record.key:
                device = self._learn(record.key, headers)
            _, front, back, size = device
            size += common + width
            try:
                length, more = table[len(value)]
                whole, size = table[size + more]
            except IndexError:
                length, more = sized(len(value))
                whole, size = sized(size + more)
            room -= size
            if room <= 0 and parts:  # aiokafka also leaves one byte free
                taken = records[: len(parts) // PARTS - start]
                most_ms = max([building.most_ms, *[one.ingest_ms for one in taken]])
                break
            parts += (whole, stamp, offset, front, length, value, back, tail)
        building.most_ms, building.room = most_ms, room if len(parts) < SHORT * PARTS else 0

    def _devices(self, rest: Sequence[Header]) -> dict[Header, _Device]:
        """The known devices with this number of headers; a device with more than MOST_HEADERS is not remembered."""
        count = len(rest) + 1
        return self._known.setdefault(count, {}) if count <= MOST_HEADERS else {}

    def _learn(self, key: bytes, headers: Sequence[Header]) -> _Device:
        front, back = varint(len(key)) + key, varint(len(headers)) + encode_header(headers[0])
        made = key, front, back, len(front) + len(back)
        if len(key) <= LONGEST and len(headers[0][1]) <= LONGEST and len(headers) <= MOST_HEADERS:
            if self._bytes > REMEMBERED_BYTES:
                for devices in self._known.values():
                    devices.clear()
                self._bytes = 0
            self._bytes += 2 * made[3] + ENTRY
            self._devices(headers[1:])[headers[0]] = made
        return made

    def _rest(self, rest: Sequence[Header]) -> bytes:
        """The encoded headers after the first."""
        key = tuple(rest)
        found = self._rests.get(key)
        if found is None:
            if len(self._rests) >= RESTS:
                self._rests.clear()
            found = b"".join([encode_header(one) for one in rest])
            if len(found) <= LONGEST:
                self._rests[key] = found
        return found


def _made(building: Building) -> RecordBatch:
    parts = building.parts
    return RecordBatch(b"".join(parts), len(parts) // PARTS, building.first_ms, building.most_ms)
