"""The sink `influx`: records in; out, their lines in a time series database, and which of them it never takes.

A line that is written again falls on itself: equal tags and time are one point. So a crash costs repeats that nobody
sees (VictoriaMetrics and QuestDB want to be told: docs/sinks.md).
"""

import time
from collections.abc import Collection, Mapping, Sequence

from app.core.model.records import Kind
from app.settings import Settings
from app.sinks.flush_progress import FlushProgress, memory
from app.sinks.influx.client import InfluxClient
from app.sinks.influx.halving import Halving
from app.sinks.influx.lines import LineMaker
from app.sinks.port import Flushed, Held, SinkMisconfigured, SinkUnavailable
from app.sinks.record import SinkRecord
from app.sinks.sink_metrics import WRITTEN_BYTES

REQUEST_MAX = 1_000_000  # bytes of lines in a request, unless one alone is longer
LINES_MIN = 100  # a slow server is asked to take no fewer


class InfluxSink:
    """Holds lines and writes them in requests of `influx_batch` at most."""

    kind = "influx"

    def __init__(self, name: str, settings: Settings) -> None:
        """Raises SinkMisconfigured for settings that do not go together."""
        if set(settings.sink_kinds) != {Kind.TELEMETRY}:
            raise SinkMisconfigured("IOT_SINK_KINDS: the sink influx takes telemetry alone")
        self.name, self.linger = name, settings.influx_flush_ms / 1000
        self._client = InfluxClient(settings)
        self._halving = Halving(self._client.post, self._still_takes)
        self._line = LineMaker(settings.telemetry_schema, settings).line
        self._most = self._at_once = settings.influx_batch
        self._records: list[SinkRecord] = []
        self._lines: list[str] = []  # of the records, one each
        self._bytes = self._line_bytes = 0
        self._oldest: float | None = None
        self._progress = FlushProgress()

    async def open(self) -> None:
        """Ask the server whether it would take lines. Raises SinkUnavailable and SinkMisconfigured."""
        await self._client.check()

    async def resume(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """Nothing: the group's commits say where reading goes on."""
        return {}

    async def begin_anew(self, partitions: Collection[int]) -> None:
        """Nothing: what is written does not depend on offsets."""

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Take records, each with a reading."""
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
        """The lines in memory, with their records."""
        return Held(len(self._lines), self._bytes, self._oldest)

    @property
    def due(self) -> bool:
        """Whether there are lines for a full request."""
        return len(self._lines) >= self._most or self._line_bytes >= REQUEST_MAX

    async def flush(self) -> Flushed:
        """Write all lines. Raises SinkUnavailable, with what was written before."""
        try:
            while self._lines:
                await self._write_some()
        except SinkUnavailable as error:
            error.so_far = self._progress.taken()
            raise
        return self._progress.taken()

    async def _write_some(self) -> None:
        """One request, or as many as the bad lines in it cost."""
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
        """Return when the server takes lines as such; else it is away, until an operator has mended it."""
        try:
            await self._client.check()
        except SinkMisconfigured as error:
            raise SinkUnavailable("the server refuses even to write nothing", cure=str(error)) from None

    def _count(self) -> int:
        """How many of the first lines the next request has."""
        if self._line_bytes + len(self._lines) <= REQUEST_MAX:
            return min(len(self._lines), self._at_once)
        size = 0
        for number, line in enumerate(self._lines[: self._at_once]):
            size += len(line) + 1
            if size > REQUEST_MAX:
                return max(1, number)
        return min(len(self._lines), self._at_once)

    async def revoked(self, partitions: Collection[int]) -> None:
        """Drop what is held of these partitions."""
        kept = [number for number, record in enumerate(self._records) if record.partition not in partitions]
        self._records, self._lines = [self._records[n] for n in kept], [self._lines[n] for n in kept]
        self._line_bytes = sum([len(line) for line in self._lines])
        self._bytes = memory(self._records) + self._line_bytes
        self._oldest = self._oldest if kept else None
        self._progress.drop(partitions)

    async def close(self) -> None:
        """Drop the connections."""
        await self._client.close()

    def shown(self, records: Sequence[SinkRecord]) -> list[str]:
        """The lines of records."""
        return [self._line(record) for record in records]
