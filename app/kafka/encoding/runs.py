"""The encoding of many records into a batch at once: in, runs of records that share everything but device and value.

Each step makes a list from other lists, without Python code per record: 0.25 us of CPU per record.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from operator import add
from typing import Protocol

from app.kafka.encoding.varints import ENCODED, SHORT, TAKEN, TWO_BYTES, sized, varint

AT_ONCE = 1024  # records per step: bounds the work on records that do not fit
PARTS = 8  # parts of a record: its size, time, offset, key, value's size, value, first header, other headers


class EncodedDevice(Protocol):
    """The encoded parts that all records of a device share."""

    @property
    def front(self) -> bytes:
        """The encoded key."""

    @property
    def back(self) -> bytes:
        """The encoded number of headers and first header."""

    @property
    def size(self) -> int:
        """Bytes of `front` and `back`."""


class EncodableRun(Protocol):
    """Records that are encoded together."""

    @property
    def devices(self) -> Sequence[EncodedDevice]:
        """The device of each record."""

    @property
    def values(self) -> Sequence[bytes]:
        """The value of each record."""

    @property
    def tail(self) -> bytes:
        """The encoded headers after the first."""

    @property
    def ingest_ms(self) -> int:
        """The records' time, in milliseconds since 1970."""


class Building:
    """A batch under construction; `room`: remaining bytes, 0 or less for a full batch."""

    __slots__ = ("first_ms", "most_ms", "parts", "room")

    def __init__(self, first_ms: int, room: int) -> None:
        """`first_ms`: time of the first record in milliseconds since 1970; `room`: bytes for all records."""
        self.parts: list[bytes] = []
        self.first_ms = self.most_ms = first_ms
        self.room = room

    def add(self, runs: Sequence[EncodableRun]) -> None:
        """Add as many records as take less than `room`, at least one record to an empty batch."""
        columns = _Columns(0)
        for run in runs:
            stamp, count = b"\0" + varint(run.ingest_ms - self.first_ms), len(run.values)
            size = len(stamp) + len(run.tail)
            if size != columns.size:
                self._add(columns)
                columns = _Columns(size)
            columns.devices += run.devices
            columns.values += run.values
            columns.stamps += [stamp] * count
            columns.tails += [run.tail] * count
            columns.ends.append((len(columns.values), run.ingest_ms))
        self._add(columns)

    def _add(self, columns: "_Columns") -> None:
        at, before = 0, len(self.parts)
        while at < len(columns.values) and (self.room > 0 or not self.parts):
            offset = len(self.parts) // PARTS
            if offset >= SHORT:
                self.room = 0
                break
            end = at + min(AT_ONCE, (TWO_BYTES if offset < TWO_BYTES else SHORT) - offset)
            self._put(columns, at, end, offset)
            at = end
        taken, begin = (len(self.parts) - before) // PARTS, 0
        for finish, ms in columns.ends:
            if begin < taken:
                self.most_ms = max(self.most_ms, ms)
            begin = finish

    def _put(self, columns: "_Columns", at: int, end: int, offset: int) -> None:
        """Add records from `at` up to `end`, whose encoded offsets have equal size."""
        devices, values, room = columns.devices[at:end], columns.values[at:end], self.room
        lengths, bodies, wholes = _sizes(devices, values, columns.size + len(ENCODED[offset]))
        self.room -= sum(bodies) + sum(map(len, wholes))
        if self.room <= 0:
            ends = list(accumulate(map(add, bodies, map(len, wholes))))
            count = bisect_left(ends, room) or (0 if self.parts else 1)
            devices, values, lengths, wholes = devices[:count], values[:count], lengths[:count], wholes[:count]
            end = at + count
        made = [b""] * (PARTS * len(values))
        made[0::PARTS] = wholes
        made[1::PARTS] = columns.stamps[at:end]
        made[2::PARTS] = ENCODED[offset : offset + len(values)]
        made[3::PARTS] = [device.front for device in devices]
        made[4::PARTS] = lengths
        made[5::PARTS] = values
        made[6::PARTS] = [device.back for device in devices]
        made[7::PARTS] = columns.tails[at:end]
        self.parts += made


class _Columns:
    """Consecutive runs whose records have equally many bytes besides their device, offset and value."""

    __slots__ = ("devices", "ends", "size", "stamps", "tails", "values")

    def __init__(self, size: int) -> None:
        """`size`: bytes of the time and of the headers after the first."""
        self.size = size
        self.devices: list[EncodedDevice] = []
        self.values: list[bytes] = []
        self.stamps: list[bytes] = []
        self.tails: list[bytes] = []
        self.ends: list[tuple[int, int]] = []  # for each run: (number of records up to its end, its time)


def _sizes(
    devices: Sequence[EncodedDevice], values: Sequence[bytes], more: int
) -> tuple[list[bytes], list[int], list[bytes]]:
    """For each record: the encoded size of its value; the bytes after its own size; its own encoded size. `more`: bytes
    that each record has besides device and value.
    """
    try:
        lengths = [ENCODED[len(value)] for value in values]
        bodies = [device.size + TAKEN[len(value)] + more for device, value in zip(devices, values, strict=True)]
        return lengths, bodies, [ENCODED[body] for body in bodies]
    except IndexError:
        encoded = [sized(len(value)) for value in values]
        bodies = [device.size + taken + more for device, (_, taken) in zip(devices, encoded, strict=True)]
        return [length for length, _ in encoded], bodies, [varint(body) for body in bodies]
