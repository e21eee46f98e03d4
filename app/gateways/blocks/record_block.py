"""Records that share everything but device and payload: two lists, without an object for each record.

A block is a sequence of records whose objects are created on first access: for a limit, a span, a failure or a
refusal. On the usual path no record is accessed, and the block is encoded into batches directly.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import cast, overload

from app.core.model.records import Kind
from app.gateways.blocks.place import Place
from app.gateways.record import FIXED_HEADERS, IngestRecord
from app.kafka.encoding.varints import Header, encode_header

_TELEMETRY = Kind.TELEMETRY
_GATEWAY = FIXED_HEADERS - 1  # its index in the headers after mqtt_topic


class RecordBlock(Sequence[IngestRecord]):
    """Telemetry that one gateway took in at one time."""

    __slots__ = ("_made", "ingest_ms", "payload", "places", "rest", "tail", "values")

    def __init__(
        self, places: Sequence[Place], values: Sequence[bytes], rest: list[Header], ingest_ms: int, payload: int
    ) -> None:
        """A place and a value for each record; `rest`: the HEADERS - 1 headers after the first; `payload`: bytes of all
        values.
        """
        self.places, self.values, self.rest = places, values, rest
        self.ingest_ms, self.payload = ingest_ms, payload
        self.tail = b"".join([encode_header(one) for one in rest])
        self._made: list[IngestRecord] | None = None

    @property
    def gateway(self) -> bytes:
        """The name of the gateway that took the records in."""
        return self.rest[_GATEWAY][1]

    @property
    def untouched(self) -> bool:
        """Whether no record object exists, so that no record can differ from the block."""
        return self._made is None

    def records(self) -> list[IngestRecord]:
        """The records, always the same objects."""
        if self._made is None:
            rest, ms = self.rest, self.ingest_ms
            self._made = [
                IngestRecord(_TELEMETRY, place.key, value, [place.header, *rest], 0, ms)
                for place, value in zip(self.places, self.values, strict=True)
            ]
        return self._made

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, at: int) -> IngestRecord: ...
    @overload
    def __getitem__(self, at: slice) -> list[IngestRecord]: ...
    def __getitem__(self, at: int | slice) -> IngestRecord | list[IngestRecord]:
        return self.records()[at]

    def __iter__(self) -> Iterator[IngestRecord]:
        return iter(self.records())


def merged(found: Sequence[Sequence[object]]) -> RecordBlock | None:
    """The blocks of one request as one block; None where `found` is empty or contains anything but blocks."""
    blocks = [one for one in found if type(one) is RecordBlock]
    if not blocks or len(blocks) < len(found):
        return None
    first = blocks[0]
    places = list(chain.from_iterable([one.places for one in blocks]))
    values = list(chain.from_iterable([one.values for one in blocks]))
    return RecordBlock(places, values, first.rest, first.ingest_ms, sum([one.payload for one in blocks]))


class JoinedRecords(Sequence[IngestRecord]):
    """A sequence of blocks and lists of records."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[RecordBlock | list[IngestRecord]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, at: int) -> IngestRecord: ...
    @overload
    def __getitem__(self, at: slice) -> list[IngestRecord]: ...
    def __getitem__(self, at: int | slice) -> IngestRecord | list[IngestRecord]:
        return list(self)[at]

    def __iter__(self) -> Iterator[IngestRecord]:
        return chain.from_iterable(self.parts)


def joined(sequences: Sequence[Sequence[IngestRecord]]) -> Sequence[IngestRecord]:
    """The records of all sequences, in order: a list, unless a block is among them."""
    if not any(type(one) is RecordBlock for one in sequences):
        return list(chain.from_iterable(sequences))
    parts: list[RecordBlock | list[IngestRecord]] = []
    for is_block, some in groupby(sequences, lambda one: type(one) is RecordBlock):
        if is_block:
            parts += cast("Iterator[RecordBlock]", some)
        else:
            parts.append(list(chain.from_iterable(some)))
    return JoinedRecords(parts)


def payload_of(records: Sequence[IngestRecord]) -> int:
    """Bytes of all values."""
    if type(records) is RecordBlock:
        return records.payload
    return len(records[0].value) if len(records) == 1 else sum([len(record.value) for record in records])


def topic_and_gateway(records: Sequence[IngestRecord]) -> tuple[bytes, bytes]:
    """(topic, name of the gateway) of the first record."""
    if type(records) is RecordBlock:
        return records.places[0].header[1], records.gateway
    headers = records[0].headers
    return headers[0][1], headers[FIXED_HEADERS][1]


def topics_of(records: Sequence[IngestRecord]) -> list[bytes]:
    """The topic of each record."""
    if type(records) is RecordBlock:
        return [place.header[1] for place in records.places]
    return [record.headers[0][1] for record in records]
