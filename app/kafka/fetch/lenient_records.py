"""Records that aiokafka cannot read, read all the same: in, the bytes of a response; out, its records.

A header's name is UTF-8 by Kafka's protocol, and a broker takes any bytes. aiokafka raises UnicodeDecodeError at such a
record, at each try: its partition would stand still for ever. Here the name is read with escapes in the place of
what is no UTF-8; nothing of the product looks for such a name, and the record goes its way like any other.
"""

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_HEAD = struct.Struct(">qi").unpack_from  # of a Kafka batch: its first offset, and the bytes that follow
_HEAD_BYTES = 12


class LenientBytes(bytearray):
    """Bytes that decode to text whatever they are."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return LenientBytes(found) if isinstance(key, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        """The text; `\\xff` stands for a byte that is no part of any."""
        return super().decode("utf-8", "backslashreplace")


class LenientBatch(_DefaultRecordBatchPy):
    """aiokafka's batch in Python, which is slower than aiokafka's batch in C, and whose decoding can be replaced."""

    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = LenientBytes(self._buffer)


class KeptRecords:
    """aiokafka's MemoryRecords, and the bytes that they are made of."""

    def __init__(self, raw: bytes) -> None:
        """`raw`: what Kafka sent of one partition, one batch after another; the last may be cut off."""
        self._raw, self._records = raw, MemoryRecords(raw)
        self.has_next, self.size_in_bytes = self._records.has_next, self._records.size_in_bytes
        self.batch: Any = None  # the batch that was given last

    def next_batch(self) -> Any:
        """The batch that follows. Raises CorruptRecordException."""
        self.batch = self._records.next_batch()
        return self.batch

    def lenient(self) -> Iterator[Any]:
        """The records of `batch`, from its first, whatever its headers are called. Raises CorruptRecordException."""
        start = 0
        while start + _HEAD_BYTES <= len(self._raw):
            first, length = _HEAD(self._raw, start)
            end = start + _HEAD_BYTES + length
            if first == self.batch.base_offset:
                return iter(LenientBatch(memoryview(self._raw)[start:end]))
            start = end
        raise AssertionError(f"no batch of this response begins at offset {self.batch.base_offset}")


class LenientPartition(PartitionRecords):
    """aiokafka's reader of a response, for records of others; BulkDecoder reads those of our topic."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        while True:
            try:
                yield from super()._unpack_records()
            except UnicodeDecodeError:  # what comes after this batch is aiokafka's again
                for record in self._records.lenient():
                    if record.offset >= self.next_fetch_offset:
                        self.next_fetch_offset = record.offset + 1
                        yield self._consumer_record(self._tp, record)
                self.next_fetch_offset = self._records.batch.next_offset
            else:
                return


def install() -> None:
    """Let every consumer of this process read its responses so."""
    fetcher.MemoryRecords, fetcher.PartitionRecords = KeptRecords, LenientPartition
