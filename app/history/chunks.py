"""A part of a topic in chunks: in, offsets; out, records, so many at a time that a round trip to a server pays."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from app.kafka.reading.record_log import Offsets, RecordLog

CHUNK = 5_000  # records
CHUNK_BYTES = 16 << 20  # of their payloads


async def chunks(log: RecordLog, begin: Offsets, until: Offsets) -> AsyncIterator[Sequence[Any]]:
    """Yield the records from `begin` up to, not including, `until`, in order per partition; a chunk may have records of
    several. Nothing for partitions that end before they begin. Raises KAFKA_ERRORS.
    """
    begin = {tp: at for tp, at in begin.items() if at < until[tp]}
    if not begin:
        return
    chunk, size = list[Any](), 0
    async for records in log.follow(begin, until):
        chunk += records
        size += sum(len(record.value or b"") for record in records)
        if len(chunk) >= CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
