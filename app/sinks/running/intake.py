"""Hands records to a sink: records of a partition in; the decoded records that pass filters and limits out."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from app.kafka.fetch.fetcher import value_bytes
from app.settings import Settings
from app.sinks.cardinality.limits import SeriesBounds, SeriesLimit
from app.sinks.decode import SinkDecoder
from app.sinks.port import Sink
from app.sinks.running.books import SinkBooks
from app.sinks.running.progress import Progress

SLICE = 500  # records between two yields to the event loop, 2 ms
SLICE_BYTES = 1 << 20  # of their values; decoded, a record may take twenty times as much


def slices(records: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The records in runs of at most SLICE and SLICE_BYTES; a larger record alone."""
    for at in range(0, len(records), SLICE):
        yield from _halves(records[at : at + SLICE])


def _halves(records: Sequence[Any]) -> Iterator[Sequence[Any]]:
    if len(records) == 1 or value_bytes(records) <= SLICE_BYTES:
        yield records
    else:
        middle = len(records) // 2
        yield from _halves(records[:middle])
        yield from _halves(records[middle:])


def series_bounds(settings: Settings) -> SeriesBounds | None:
    """The limits of the settings; None without limits."""
    of_sink, of_tenant = settings.sink_cardinality_max, settings.sink_cardinality_tenant_max
    if not of_sink and not of_tenant:
        return None
    return SeriesBounds(of_sink, of_tenant, settings.sink_cardinality_policy == "drop")


class SinkIntake:
    """Hands records to one sink, in their order."""

    def __init__(self, settings: Settings, sink: Sink, progress: Progress, books: SinkBooks) -> None:
        self._sink, self._progress, self._books = sink, progress, books
        self._decoder = SinkDecoder(settings)
        bounds = series_bounds(settings)
        schema = settings.telemetry_schema
        self.series = SeriesLimit(sink.name, bounds, schema, time.monotonic) if bounds else None

    def take(self, partition: int, records: Sequence[Any]) -> None:
        """Take the next records of a partition, at least one. Never raises for any record."""
        self._books.read(len(records))
        given = self._decoder.decode(partition, records)
        self._books.decoded(self._decoder)
        if self.series is not None:
            every = len(given)
            given = self.series.admit(given)
            self._books.count("dropped_cardinality", every - len(given))
        if given:
            self._sink.add(given)
        since = given[0].ingest_ms if given else 0
        self._progress.read(partition, records[-1].offset + 1, [one.offset for one in given[-1:]], since)
