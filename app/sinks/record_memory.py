"""About how much memory records take: their payloads and the number of their fields in, bytes out.

A field of ten bytes takes 170 in memory, and a payload of 1 MiB may have 100,000 fields: the length of the payload
alone would let one device exceed the limit of a buffer ten times over.
"""

from collections.abc import Sequence

from app.sinks.record import SinkRecord

# Measured with tracemalloc: a reading, its record and its headers, without fields; a field with a short name.
RECORD_BYTES, FIELD_BYTES = 1000, 170
COPIES = 2  # of the payload: its bytes, and the values of the reading


def memory(records: Sequence[SinkRecord]) -> int:
    """About how many bytes the records take in memory, with everything that they refer to."""
    payloads = sum([len(record.payload) for record in records])
    fields = sum([len(record.reading.extra) for record in records if record.reading is not None])
    return RECORD_BYTES * len(records) + COPIES * payloads + FIELD_BYTES * fields
