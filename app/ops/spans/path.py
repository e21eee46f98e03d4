"""The spans of a worker: each step of a batch, as reported, begins and ends the spans of traced messages.

A sampled message has one span, `worker_process`, in the trace that it came with. A batch with sampled messages has a
trace of its own: `batch_flush`, and beneath it `store_telemetry_batch`. Each message has a link to its batch, and the
batch to its first LINKS messages.
"""

import time
from collections import deque
from collections.abc import Iterator

from app.core.batch.batch import Batch
from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput
from app.core.ingress.trace_budget import TraceBudget
from app.core.model.alert_event import AlertEvent
from app.core.model.records import Record
from app.ops.spans.messages import INTERRUPTED, conclude, dead_letters, identity, place
from app.ops.spans.sampled import Sampled, sampled_records
from app.runtime.tracing import semconv
from app.runtime.tracing.context import SpanContext, context_of
from app.runtime.tracing.tracing import CURRENT, NO_SPAN, Attributes, SpanKind, TraceSpan, Tracing

LINKS = 128  # more are not kept by OpenTelemetry's SDK

Taken = list[tuple[int, int]]  # the first offset of each batch as it came from Kafka, and when it came (ns since 1970)


class OpenBatch:
    """A batch on its way, and its spans."""

    __slots__ = ("flush", "messages", "store", "taken")

    def __init__(self, taken: Taken) -> None:
        self.taken = taken
        self.flush = self.store = NO_SPAN
        self.messages: list[tuple[Record, TraceSpan]] = []

    def taken_at(self, offset: int) -> int | None:
        """When the record at `offset` was taken from Kafka: nanoseconds since 1970; None: it was not in this batch."""
        return max((at for first, at in self.taken if first <= offset), default=None)


class PathSpans:
    """ports.PathTracing. Keeps what is under way of one epoch, and nothing longer."""

    def __init__(self, tracing: Tracing, group: str, budget: TraceBudget) -> None:
        """`group`: the consumer group. `budget`: of messages that say they are sampled."""
        self._tracing, self._group, self._budget = tracing, group, budget
        self._epoch = -1
        self._waiting: dict[int, deque[tuple[int, int]]] = {}  # by partition: batches not processed, as in Taken
        self._open: dict[Batch, OpenBatch] = {}
        self._alerts: dict[bytes, tuple[SpanContext, AlertEvent]] = {}  # of traced messages, by their JSON

    def taken(self, batch: Batch) -> None:
        """Step 1. What is left of another epoch was dropped, and comes again."""
        if batch.epoch != self._epoch:
            self.forget()
            self._epoch = batch.epoch
        self._waiting.setdefault(batch.partition, deque()).append((batch.first_offset, time.time_ns()))

    def processed(self, batch: Batch, work: BatchOutput, seconds: float) -> None:
        """Step 2 took so many seconds; begins the spans of sampled messages, and of the batch if there are any."""
        opened = self._open[batch] = OpenBatch(list(self._taken(batch)))
        if found := sampled_records(batch.records, work.annotated, self._tracing.head, self._budget):
            self._begin(opened, batch, work, found)
            opened.flush = self._flush(batch, opened, time.time_ns() - int(seconds * 1e9))

    def storing(self, batch: Batch, work: BatchOutput) -> None:
        """Step 4 begins, in the task that calls: its span is what is at work there until `stored`."""
        opened = self._open.get(batch)
        if opened is None or opened.flush.context is None:
            return
        attributes: Attributes = {
            semconv.DB_SYSTEM_NAME: semconv.POSTGRESQL,
            semconv.DB_COLLECTION_NAME: "raw_telemetry",
            semconv.DB_OPERATION_BATCH_SIZE: len(work.rows),
        }
        parent = opened.flush.context
        opened.store = self._tracing.span(semconv.STORE_TELEMETRY_BATCH, SpanKind.CLIENT, parent, attributes)
        CURRENT.set(opened.store)

    def stored(self, batch: Batch, written: WriteResult) -> None:
        """Step 4 is done: end its span, with the counts of rows."""
        opened = self._open.get(batch)
        if opened is None or opened.store is NO_SPAN:
            return
        CURRENT.set(None)
        counts = {semconv.ROWS_STORED: written.rows, semconv.ROWS_DUPLICATE: written.duplicates}
        opened.store.set({**counts, semconv.ROWS_REFUSED: len(written.refused)})
        opened.store.end()
        opened.store = NO_SPAN

    def done(self, batch: Batch, work: BatchOutput, written: WriteResult) -> None:
        """Step 7: the batch is acknowledged. Ends its spans; dead letters get a span too, sampled or not, within the
        limit of `tracing.always`.
        """
        opened = self._open.pop(batch, None)
        if opened is None:
            return
        dead = dict(dead_letters(work, written))
        for record, span in opened.messages:
            conclude(span, record, dead.pop(record.offset, None), work, written)
            span.end()
        for one in dead.values():
            if self._tracing.always():
                span = self._message(opened, batch, work, (one.record, context_of(one.record.headers)))
                conclude(span, one.record, one, work, written)
                span.end()
        opened.flush.end()

    def given_up(self, batch: Batch, reason: str) -> None:
        """The batch was interrupted, for `reason`, and comes again: its spans end as failed, and the batch has a
        span even where nothing was sampled, within the limit of `tracing.always`.
        """
        opened = self._open.pop(batch, None)
        if opened is None:
            return
        if opened.flush is NO_SPAN and self._tracing.always():
            opened.flush = self._flush(batch, opened, opened.taken_at(batch.next_offset))
        self._interrupt(opened, reason)

    def forget(self) -> None:
        """End all spans that are under way, as interrupted: after a rebalance nothing more is heard of
        their batches.
        """
        for opened in self._open.values():
            self._interrupt(opened, "a rebalance, a stop or a crash came first")
        self._open.clear()
        self._waiting.clear()
        self._alerts.clear()

    def of_batch(self, batch: Batch) -> TraceSpan | None:
        """The span `batch_flush` of a batch; None where nothing of the batch is traced."""
        opened = self._open.get(batch)
        return opened.flush if opened and opened.flush is not NO_SPAN else None

    @property
    def has_alerts(self) -> bool:
        """Whether an alert of a traced message is on its way."""
        return bool(self._alerts)

    def publish(self, text: bytes) -> TraceSpan:
        """Begin the span of an alert on its way, given as its JSON; NO_SPAN where its message is not traced, and the
        second time for the same alert. The caller ends the span.
        """
        found = self._alerts.pop(text, None)
        if found is None:
            return NO_SPAN
        parent, event = found
        return self._tracing.span(semconv.ALERT_PUBLISH, SpanKind.PRODUCER, parent, _of_alert(event))

    def _taken(self, batch: Batch) -> Iterator[tuple[int, int]]:
        waiting = self._waiting.get(batch.partition)
        while waiting and waiting[0][0] < batch.next_offset:
            yield waiting.popleft()

    def _begin(self, opened: OpenBatch, batch: Batch, work: BatchOutput, found: Sampled) -> None:
        contexts: dict[int, SpanContext | None] = {}
        for each in found:
            span = self._message(opened, batch, work, each)
            opened.messages.append((each[0], span))
            contexts[each[0].offset] = span.context
        for (_, text), event, record in zip(work.alerts, work.events, work.alert_records, strict=False):
            if context := contexts.get(record.offset):
                self._alerts[text] = (context, event)

    def _message(
        self, opened: OpenBatch, batch: Batch, work: BatchOutput, each: tuple[Record, SpanContext | None]
    ) -> TraceSpan:
        record, parent = each
        attributes = {**identity(record, work), **place(record, batch.topic, batch.partition, self._group)}
        start = opened.taken_at(record.offset)
        links = [opened.flush.context] if opened.flush.context else []
        return self._tracing.span(semconv.WORKER_PROCESS, SpanKind.CONSUMER, parent, attributes, links, start)

    def _flush(self, batch: Batch, opened: OpenBatch, start: int | None) -> TraceSpan:
        linked = [span.context for _, span in opened.messages[:LINKS] if span.context]
        attributes: Attributes = {
            semconv.MESSAGING_SYSTEM: semconv.KAFKA,
            semconv.MESSAGING_DESTINATION_NAME: batch.topic,
            semconv.MESSAGING_DESTINATION_PARTITION_ID: str(batch.partition),
            semconv.MESSAGING_CONSUMER_GROUP_NAME: self._group,
            semconv.MESSAGING_KAFKA_OFFSET: batch.first_offset,
            semconv.MESSAGING_BATCH_MESSAGE_COUNT: len(batch.records),
            semconv.LINKS_LEFT_OUT: len(opened.messages) - len(linked),
        }
        span = self._tracing.span(semconv.BATCH_FLUSH, SpanKind.INTERNAL, None, attributes, linked, start)
        for _, message in opened.messages:
            if span.context:
                message.link(span.context)
        return span

    def _interrupt(self, opened: OpenBatch, reason: str) -> None:
        for _, span in opened.messages:
            span.set({semconv.OUTCOME: INTERRUPTED})
            span.end()
        for span in (opened.store, opened.flush):
            span.fail(INTERRUPTED, reason)
            span.end()


def _of_alert(event: AlertEvent) -> Attributes:
    return {
        semconv.MESSAGING_SYSTEM: semconv.KAFKA,
        semconv.MESSAGING_OPERATION_NAME: "send",
        semconv.MESSAGING_OPERATION_TYPE: "send",
        semconv.USER_ID: event.user_id,
        semconv.DEVICE_ID: event.device_id,
        semconv.RULE_ID: event.rule_id,
        semconv.ALERT_ID: event.alert_id,
        semconv.ALERT_STATUS: event.status.value,
    }
