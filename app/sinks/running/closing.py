"""The end of a flush: its result in; out, dead letters sent, new series logged, offsets committed, in this order."""

import time
from collections.abc import Awaitable, Callable, Collection

import structlog

from app.errors import BooksError
from app.kafka.access import KAFKA_ERRORS
from app.settings import Settings
from app.sinks.cardinality.limits import SeriesId, SeriesLimit
from app.sinks.port import Flushed, Sink
from app.sinks.running.books import SinkBooks
from app.sinks.running.consumer import SinkConsumer
from app.sinks.running.progress import Progress
from app.sinks.running.refusals import SinkDeadLetters

log = structlog.get_logger()

NoteSeries = Callable[[list[SeriesId]], Awaitable[None]]


class SinkClosing:
    """Completes the flushes of one sink."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        consumer: SinkConsumer,
        progress: Progress,
        books: SinkBooks,
        letters: SinkDeadLetters,
    ) -> None:
        self._sink, self._consumer, self._progress, self._books = sink, consumer, progress, books
        self._letters, self._every = letters, settings.kafka_commit_interval
        self._open: list[Flushed] = []  # flushes whose dead letters are not sent
        self._committed_at = 0.0
        self._series: tuple[SeriesLimit, NoteSeries] | None = None

    def note_series(self, limit: SeriesLimit, note: NoteSeries) -> None:
        """From now on call `note` with the new series of `limit` before each commit."""
        self._series = limit, note

    @property
    def waiting(self) -> bool:
        """Whether dead letters of a flush are not sent."""
        return bool(self._open)

    @property
    def is_time(self) -> bool:
        """Whether the commit interval has passed."""
        return time.monotonic() - self._committed_at >= self._every

    def add(self, found: Flushed, seconds: float) -> None:
        """Add the result and duration of a flush. Raises BooksError when the sink has dropped other records."""
        refused = len(found.refused)
        done = self._books.balance(self._sink.held.records)
        if done < refused:
            raise BooksError(f"{self._sink.name}: the sink completed {done} records, and reports {refused} as refused")
        if done > refused:
            self._books.flushed(done - refused, seconds)
        self._books.count("refused", refused)
        self._letters.done(done, refused)
        self._open.append(found)

    def reached(self, partition: int) -> int:
        """The offset that flushes without sent dead letters have reached; -1: there is no such flush."""
        return max((one.upto.get(partition, -1) for one in self._open), default=-1)

    def drop(self, partitions: Collection[int]) -> None:
        """Remove the results and dead letters of these partitions: their records are read again."""
        for at, one in enumerate(self._open):
            upto = {number: offset for number, offset in one.upto.items() if number not in partitions}
            refused = [letter for letter in one.refused if letter[0].partition not in partitions]
            self._open[at] = Flushed(upto, refused)

    async def dead_letter(self) -> None:
        """Send the dead letters of the flushes so far; then the results of these flushes may be committed.

        Raises TransientError when stopped first, DeadLetterLimitError when there are too many dead letters.
        """
        while self._open:
            begins = {number: one.position for number, one in self._progress.partitions.items()}
            await self._letters.send(self._open[0].refused, begins, self._consumer.epoch)
            self._progress.flushed(self._open.pop(0))

    async def commit(self, ours: bool = False) -> None:
        """Commit the progress; after a failed commit records are read again. `ours`: commit although a rebalance
        revokes the partitions now.

        Raises TransientError when stopped before the series are logged: then nothing is committed.
        """
        self._committed_at = time.monotonic()
        offsets = self._progress.to_commit() if ours or self._consumer.settled else {}
        if not offsets:
            return
        await self._note()
        try:
            await self._consumer.commit(offsets)
        except KAFKA_ERRORS as error:
            self._books.failed("commit")
            log.warning("sink_commit_failed", sink=self._sink.name, offsets=offsets, error=repr(error))
        else:
            self._progress.committed(offsets)

    async def _note(self) -> None:
        if self._series is None or not self._series[0].fresh:
            return
        limit, note = self._series
        fresh, limit.fresh = limit.fresh, []
        try:
            await note(fresh)
        except BaseException:
            limit.fresh = fresh + limit.fresh
            raise
