"""The path of a sink on one screen: a consumer group of its own -> one destination.

    1 settle the assigned partitions and where they resume                      (assignment.py)
    2 take records                                                              (consumer.py)
    3 decode, filter, apply the limits of series, hand to the sink              (intake.py)
    4 flush, once enough is buffered or the linger time has passed              (the sink)
    5 dead-letter the refused records                                           (closing.py, refusals.py)
    6 log the new series, commit the progress                                   (closing.py, cardinality/series_log.py)

While the destination is unavailable step 4 is retried and nothing is read: memory stays constant, and the lag grows.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from app.errors import TransientError
from app.kafka.access import KAFKA_ERRORS
from app.runtime.interrupt import Interrupt, set_within
from app.runtime.retry import delay, log_level
from app.settings import Settings
from app.sinks.port import Flushed, Held, Sink, SinkUnavailable
from app.sinks.running.assignment import Assignment
from app.sinks.running.books import SinkBooks
from app.sinks.running.calls import SinkCalls, StopBudget, within
from app.sinks.running.circuit import CircuitState, SinkCircuit
from app.sinks.running.clients import SinkKafka
from app.sinks.running.closing import SinkClosing
from app.sinks.running.intake import SinkIntake, slices
from app.sinks.running.progress import Progress
from app.sinks.running.watch import SinkWatch

log = structlog.get_logger()

BATCH = 2_000  # records of one read
POLL_SECONDS = 0.5
GIVE_UP_SECONDS = 4.0  # for the running flush at a rebalance, which the whole group waits for
COMMIT_SECONDS = 2.0  # for the commit after that
PAUSE_SECONDS = 0.1  # after a step that was interrupted
LAST_SECONDS = 2.0  # of the shutdown timeout, for closing connections


class SinkRunner:
    """Runs one sink until stopped; retries through every outage of Kafka or the destination."""

    def __init__(self, settings: Settings, sink: Sink, stop: asyncio.Event, kafka: SinkKafka) -> None:
        """`settings` are those of the instance."""
        self._settings, self._sink, self._stop = settings, sink, stop
        self.books, self._progress = SinkBooks(sink.name), Progress()
        self._circuit = SinkCircuit(settings.sink_breaker_failures, settings.sink_retry_max)
        self._budget = StopBudget(stop, max(1.5, settings.shutdown_timeout - LAST_SECONDS))
        self._interrupt = Interrupt(stop)
        self._calls = SinkCalls(sink.name, self._circuit, self.books, self._interrupt, self._budget)
        self.consumer, self._letters, self._series = kafka
        self.consumer.giving_up = self._giving_up
        self._watch = SinkWatch(sink, self.consumer, self._progress, self.books, self._circuit)
        self._intake = SinkIntake(settings, sink, self._progress, self.books)
        self._closing = SinkClosing(settings, sink, self.consumer, self._progress, self.books, self._letters)
        self._assignment = Assignment(sink, self.consumer, self._progress, self.books, self._closing)
        if self._intake.series:
            self._closing.note_series(self._intake.series, self._series.write)
        self._turn = asyncio.Lock()  # one step at a time; `_giving_up` waits for the step
        self._opened, self._kafka_failures = False, 0
        self._result_pending = False  # a flush was cancelled, and its result is not known yet

    @property
    def name(self) -> str:
        """The name of the sink."""
        return self._sink.name

    @property
    def available(self) -> bool:
        """Whether the destination is connected and its circuit closed."""
        return self._opened and self._circuit.state is CircuitState.CLOSED

    @property
    def held(self) -> int:
        """The number of buffered records."""
        return self._sink.held.records

    async def run(self) -> None:
        """Run until stopped. Raises SinkMisconfigured, PermanentError, DeadLetterLimitError, and errors of bugs."""
        look = self._watch.look(self._intake.series, self._series, self._settings.sink_cardinality_max)
        looking = asyncio.create_task(look, name=f"{self.name}-look")
        try:
            while not self._stop.is_set():
                if looking.done():
                    looking.result()
                await self._step(self._round)
            await self._step(self._last_flush)
        finally:
            looking.cancel()
            await self.consumer.close()
            await self._letters.stop()
            await self._series.close()
            await self._sink.close()
            log.info("sink_stopped", sink=self.name, held=self.held, **self.books.outcomes)

    async def _step(self, step: Callable[[], Awaitable[None]]) -> None:
        """Make one step, and wait after a failure; a stop or a rebalance interrupts a step."""
        try:
            await self._interrupt.race(self._in_turn(step), self._budget.left())
        except SinkUnavailable:
            self._watch.show(paused=True)
            await set_within(self._stop, self._calls.wait)
        except TransientError as error:
            log.info("sink_interrupted", sink=self.name, reason=str(error))
            await set_within(self._stop, PAUSE_SECONDS)
        except KAFKA_ERRORS as error:
            self._kafka_failures += 1
            self.books.failed("kafka")
            attempt = self._kafka_failures
            log.log(log_level(attempt), "sink_kafka_retry", sink=self.name, attempt=attempt, error=repr(error))
            await set_within(self._stop, delay(attempt))
        else:
            self._kafka_failures = 0

    async def _in_turn(self, step: Callable[[], Awaitable[None]]) -> None:
        async with self._turn:
            await step()

    async def _round(self) -> None:
        if not self.consumer.settled:
            await self._settle()  # 1
            return
        if self._is_due():
            await self._flush()
            await self._flush_while(self._is_full)
        elif self._closing.is_time:
            await self._closing.commit()
        if not self.consumer.settled:
            return
        taken = await self.consumer.take(BATCH, self._patience())  # 2
        for partition, records in taken.items():
            if not await self._take_in(partition, records):
                break  # the other records are read again
        self._watch.show(paused=False)

    async def _settle(self) -> None:
        await self.consumer.connect()
        if not self.consumer.joined:
            await self.consumer.take(1, POLL_SECONDS)
            return
        await self._assignment.begin()
        if not self._opened:
            await self._calls.make("open", self._sink.open)
            self._opened = True
        if self._assignment.flush_first:
            await self._flush_while(lambda: True)
            self._assignment.flush_first = False
        if self._intake.series:
            await self._series.read(self._intake.series.know)
        await self._assignment.settle(self._settings.kafka_topic, self._calls.make)

    async def _take_in(self, partition: int, records: Sequence[Any]) -> bool:
        """Hand records to the sink in slices; returns whether all were handed over."""
        if self.consumer.settled:
            if records[0].offset < self._progress.partitions[partition].read_to:
                self._assignment.begin_anew({partition})  # the topic was recreated, or its log truncated
                return False
            self._progress.partitions[partition].found(records[0].offset)
        for some in slices(records):
            if not self.consumer.settled:
                return False
            self._intake.take(partition, some)  # 3
            try:
                await self._flush_while(self._is_full)
            except BaseException:
                self._seek_back()
                raise
            await asyncio.sleep(0)
        return True

    def _seek_back(self) -> None:
        """Seek back to the first record that was not handed to the sink."""
        if self.consumer.settled:
            self.consumer.seek({number: one.read_to for number, one in self._progress.partitions.items()})

    async def _flush(self) -> None:
        """Steps 4 and 5 for the whole buffer, then step 6 at intervals. Raises as `SinkCalls.make` does, and
        TransientError when a process that was stalled finds that a rebalance has happened.
        """
        epoch = self.consumer.epoch
        await self.consumer.lease.ensure()
        if epoch != self.consumer.epoch:
            raise TransientError("a rebalance has happened meanwhile: others may write what is buffered")
        failure: SinkUnavailable | None = None
        if self._sink.held.records or self._result_pending:
            try:
                await self._calls.make("flush", lambda: within(self.consumer.lease, self._write()))  # 4
            except SinkUnavailable as error:
                failure = error
        await self._closing.dead_letter()  # 5
        if self._closing.is_time:
            await self._closing.commit()  # 6
        if failure is not None:
            raise failure

    async def _write(self) -> None:
        """Step 4, with its result in the books: whatever interrupts the runner after this, the result is not lost."""
        began, self._result_pending = time.monotonic(), True
        try:
            found = await self._sink.flush(self.consumer.lease.valid)
        except SinkUnavailable as error:
            self._written(error.so_far, began, failed=True)
            raise
        self._written(found, began, failed=False)

    def _written(self, found: Flushed, began: float, *, failed: bool) -> None:
        self._result_pending = False
        self._closing.add(found, time.monotonic() - began)
        self._watch.show(paused=failed)  # together with the counts of the books

    async def _flush_while(self, wanted: Callable[[], bool]) -> None:
        """Flush while `wanted`, until the buffer is empty, or holds only records that wait for other records."""
        while wanted() and (before := self._sink.held.records + self._closing.waiting + self._result_pending):
            await self._flush()
            if self._sink.held.records >= before:
                return

    async def _last_flush(self) -> None:
        if self.consumer.settled:
            try:
                await self._flush()
            finally:
                await self._closing.commit()

    async def _giving_up(self, were_settled: bool) -> None:
        """A rebalance begins: end the running flush, and commit the progress. Never raises."""
        await self._calls.finish(GIVE_UP_SECONDS)
        try:
            async with asyncio.timeout(COMMIT_SECONDS), self._turn:
                await self._closing.commit(ours=were_settled)
        except (TimeoutError, TransientError) as error:
            log.warning("sink_commit_failed", sink=self.name, error=repr(error))

    def _is_full(self) -> bool:
        """Whether no record may be added before a flush; during a rebalance no further flush begins."""
        held = self._sink.held
        full = held.full or held.bytes >= self._settings.sink_buffer_bytes
        return full and self.consumer.settled

    def _is_due(self) -> bool:
        held = self._sink.held
        if not held.records:
            return self._closing.waiting or self._result_pending
        return self._sink.due or self._is_full() or _age(held) >= self._sink.linger

    def _patience(self) -> float:
        """Seconds to wait for records, at most until the next flush is due."""
        held = self._sink.held
        return min(POLL_SECONDS, max(0.0, self._sink.linger - _age(held))) if held.records else POLL_SECONDS


def _age(held: Held) -> float:
    return 0.0 if held.oldest is None else time.monotonic() - held.oldest
