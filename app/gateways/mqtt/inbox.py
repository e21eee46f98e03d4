"""Records between the MQTT connection and Kafka: in order, bounded in bytes, taken in chunks."""

import asyncio
from collections import deque
from collections.abc import Iterator

from app.gateways.mqtt.held_records import HeldRecords
from app.gateways.mqtt.metrics import BUFFERED_BYTES
from app.gateways.record import IngestRecord

RECORD_OVERHEAD = 500  # bytes a record takes next to its payload: 320 by tracemalloc, and its share of a socket read


class Inbox:
    """A queue of records. `full` asks the reader to pause; nothing is ever dropped for lack of room."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` bounds payloads and their records (RECORD_OVERHEAD each); what comes in one read may
        go beyond.
        """
        self._max = max_bytes
        self._records: deque[IngestRecord] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[IngestRecord]:
        return iter(self._records)

    @property
    def full(self) -> bool:
        """Whether reading should pause; below half of the bound it may go on again, see `roomy`."""
        return self._bytes >= self._max

    @property
    def roomy(self) -> bool:
        """Whether a paused reader may go on: no more than half of the bound is taken."""
        return self._bytes <= self._max // 2

    def put(self, records: list[IngestRecord]) -> None:
        """Append records in the order they were received."""
        self._records.extend(records)
        self._bytes += sum(map(_size, records))
        self._arrived.set()
        BUFFERED_BYTES.set(self._bytes)

    async def arrived(self) -> None:
        """Wait until there is a record."""
        while not self._records:
            self._arrived.clear()
            await self._arrived.wait()

    async def take(self, max_count: int, max_bytes: int) -> list[IngestRecord]:
        """Wait for the first record, then return what has gathered, up to the limits (but at least one)."""
        await self.arrived()
        taken: list[IngestRecord] = []
        size = 0
        while self._records and len(taken) < max_count and size < max_bytes:
            record = self._records.popleft()
            taken.append(record)
            size += _size(record)
        self._bytes -= size
        BUFFERED_BYTES.set(self._bytes)
        return taken

    def orphan(self, held: HeldRecords) -> None:
        """Note that the connection is gone: all records stay, to be written, and are held; what only asks for a PUBACK
        on it goes.
        """
        held.keep(self._records)
        self._records = deque(record for record in self._records if not record.written)
        self._bytes = sum(map(_size, self._records))
        BUFFERED_BYTES.set(self._bytes)


def _size(record: IngestRecord) -> int:
    return RECORD_OVERHEAD if record.written else len(record.value) + RECORD_OVERHEAD
