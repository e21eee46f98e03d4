"""The metrics of a running sink: its lag, the size of its buffer, its series."""

import asyncio
import time
from collections.abc import Mapping

import structlog

from app.errors import TransientError
from app.kafka.access import KAFKA_ERRORS
from app.sinks import sink_metrics as metrics
from app.sinks.cardinality.limits import SeriesLimit
from app.sinks.cardinality.series_log import SeriesLog
from app.sinks.port import Sink
from app.sinks.running.books import SinkBooks
from app.sinks.running.circuit import SinkCircuit
from app.sinks.running.consumer import SinkConsumer
from app.sinks.running.losses import report_missed
from app.sinks.running.progress import Progress

log = structlog.get_logger()

LOOK_SECONDS = 5.0  # interval of requests for the ends of the logs and the series of other processes


class SinkWatch:
    """Exports the metrics of one sink."""

    def __init__(
        self, sink: Sink, consumer: SinkConsumer, progress: Progress, books: SinkBooks, circuit: SinkCircuit
    ) -> None:
        self._sink, self._consumer, self._progress = sink, consumer, progress
        self._books, self._circuit = books, circuit

    async def look(self, series: SeriesLimit | None, noted: SeriesLog, most: int) -> None:
        """Update the metrics and stay in the group, every LOOK_SECONDS, also while paused, until cancelled; `most`: the
        limit of series.
        """
        while True:
            self._consumer.stay()
            try:
                await self._consumer.notice_topic()
                ends = await self._consumer.ends()
                self._see_removed(await self._consumer.starts())
                metrics.LAG.labels(self._sink.name).set(self._progress.lag(ends.items()))
                if series and self._consumer.settled:
                    await noted.read(series.know)
            except (TransientError, *KAFKA_ERRORS) as error:
                log.debug("sink_look_failed", sink=self._sink.name, error=repr(error))
            self._books.show(self._sink.held, self._progress.oldest, time.time())  # also while a flush takes long
            if series:
                self._books.show_series(series, most)
            await asyncio.sleep(LOOK_SECONDS)

    def _see_removed(self, starts: Mapping[int, int]) -> None:
        """Report records that retention has removed before they were read, as in a long outage of the destination."""
        for number, one in self._progress.partitions.items():
            if one.settled and number in starts:
                for expected, found in one.removed(starts[number]):
                    report_missed(self._sink.name, number, expected, found)

    def show(self, *, paused: bool) -> None:
        """Export the size of the buffer, and the state of the circuit."""
        self._books.show(self._sink.held, self._progress.oldest, time.time())
        metrics.PAUSED.labels(self._sink.name).set(paused)
        metrics.BREAKER.labels(self._sink.name).set(self._circuit.shown)
