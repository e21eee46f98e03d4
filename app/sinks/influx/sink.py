"""The sink `influx`: records in; out, their lines in a time series database, and the records that are refused.

A write is idempotent: lines with equal tags and time are one point. So the repeats after a crash are invisible
(VictoriaMetrics and QuestDB need a setting for this: docs/sinks.md).
"""

import time
from collections.abc import Collection, Mapping, Sequence

from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.flush_progress import FlushProgress
from app.sinks.influx.client import InfluxClient
from app.sinks.influx.halving import Halving
from app.sinks.influx.lines import LineMaker
from app.sinks.port import Flushed, Held, MayWrite, SinkMisconfigured, SinkUnavailable, always
from app.sinks.record import SinkRecord
from app.sinks.record_memory import memory
from app.sinks.sink_metrics import WRITTEN_BYTES

REQUEST_MAX = 1_000_000  # bytes of lines in a request, unless a single line is longer
LINES_MIN = 100  # the smallest request to a slow server


class InfluxSink:
    """Buffers lines and writes them in requests of at most `influx_batch` lines."""

    kind = "influx"

    def __init__(self, name: str, settings: Settings) -> None:
        """Raises SinkMisconfigured for settings that contradict each other."""
        if set(settings.sink_kinds) != {Kind.TELEMETRY}:
            raise SinkMisconfigured("IOT_SINK_KINDS: the sink influx takes telemetry alone")
        self.name, self.linger = name, settings.influx_flush_ms / 1000
        self._client = InfluxClient(settings)
        self._halving = Halving(self._client.post, self._still_takes)
        self._line = LineMaker(settings.telemetry_schema, settings).line
        self._most = self._at_once = settings.influx_batch
        self._records: list[SinkRecord] = []
        self._lines: list[str] = []  # one of each record
        self._bytes = self._line_bytes = 0
        self._oldest: float | None = None
        self._progress = FlushProgress()

    async def open(self) -> None:
        """Check that the server would accept lines. Raises SinkUnavailable and SinkMisconfigured."""
        await self._client.check()

    async def resume(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """Nothing: reading resumes at the committed offsets."""
        return {}

    async def begin_anew(self, partitions: Collection[int]) -> None:
        """Nothing: lines do not depend on offsets."""

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Buffer records, each with a reading."""
        if not records:
            return
        if self._oldest is None:
            self._oldest = time.monotonic()
        line = self._line
        lines = [line(record) for record in records]
        size = sum([len(one) for one in lines])
        self._records += records
        self._lines += lines
        self._line_bytes += size
        self._bytes += memory(records) + size

    @property
    def held(self) -> Held:
        """The buffered lines, with their records."""
        return Held(len(self._lines), self._bytes, self._oldest)

    @property
    def due(self) -> bool:
        """Whether the lines fill a request."""
        return len(self._lines) >= self._most or self._line_bytes >= REQUEST_MAX

    async def flush(self, may_write: MayWrite = always) -> Flushed:
        """Write all lines. Raises SinkUnavailable, with the lines written before in `so_far`."""
        try:
            while self._lines and may_write():
                await self._write_some()
        except SinkUnavailable as error:
            error.so_far = self._progress.taken()
            raise
        return self._progress.taken()

    async def _write_some(self) -> None:
        """Write the lines of one request, in more requests if bad lines have to be found."""
        count = self._count()
        records, lines = self._records[:count], self._lines[:count]
        try:
            refused = dict(await self._halving.write(lines))
        except SinkUnavailable as error:
            if isinstance(error.__cause__, TimeoutError):
                self._at_once = max(min(LINES_MIN, self._most), count // 2)
            raise
        self._at_once = min(self._most, 2 * self._at_once)
        size = sum([len(line) for line in lines])
        WRITTEN_BYTES.labels(self.name).inc(size + count - sum(len(lines[number]) + 1 for number in refused))
        self._progress.done(records, refused)
        self._line_bytes -= size
        self._bytes -= memory(records) + size
        del self._records[:count], self._lines[:count]
        if not self._lines:
            self._oldest = None

    async def _still_takes(self) -> None:
        """Return when the server accepts valid lines; else the server counts as unavailable until an operator has
        fixed it.
        """
        try:
            await self._client.check()
        except SinkMisconfigured as error:
            raise SinkUnavailable("the server refuses even an empty write", cure=str(error)) from None

    def _count(self) -> int:
        """The number of lines in the next request."""
        if self._line_bytes + len(self._lines) <= REQUEST_MAX:
            return min(len(self._lines), self._at_once)
        size = 0
        for number, line in enumerate(self._lines[: self._at_once]):
            size += len(line) + 1
            if size > REQUEST_MAX:
                return max(1, number)
        return min(len(self._lines), self._at_once)

    async def revoked(self, partitions: Collection[int]) -> None:
        """Drop the buffered lines of these partitions."""
        kept = [number for number, record in enumerate(self._records) if record.partition not in partitions]
        self._records, self._lines = [self._records[n] for n in kept], [self._lines[n] for n in kept]
        self._line_bytes = sum([len(line) for line in self._lines])
        self._bytes = memory(self._records) + self._line_bytes
        self._oldest = self._oldest if kept else None
        self._progress.drop(partitions)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def shown(self, records: Sequence[SinkRecord]) -> list[str]:
        """The lines of the records."""
        return [self._line(record) for record in records]
