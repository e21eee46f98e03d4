"""Ports of the path that also end or begin spans: each hands on to the real port. Put in only while tracing is on."""

from collections.abc import Sequence
from dataclasses import replace

from app.core.batch.batch import Batch
from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput, Forward
from app.core.ingress.trace_budget import TraceBudget
from app.core.model.reply import Reply
from app.kafka.alert_outbox import KafkaOutbox
from app.ops.spans.path import PathSpans
from app.ports import Ledger, Outbox, Ports, Seconds
from app.runtime.tracing.tracing import CURRENT, Tracing


def with_spans(ports: Ports, tracing: Tracing, group: str, incoming: int) -> Ports:
    """The same ports, and spans of what goes through them; `group` is the consumer group.

    `incoming`: messages a second that are traced because they say that they are sampled
    (IOT_TRACE_INCOMING_PER_SECOND). `tracing.stop` ends what is open then.
    """
    spans = PathSpans(tracing, group, TraceBudget(incoming))
    tracing.before_stop(spans.forget)  # what a crash leaves open is what somebody will ask for
    outbox: Outbox = OutboxWithSpans(ports.outbox, spans) if isinstance(ports.outbox, KafkaOutbox) else ports.outbox
    return replace(ports, ledger=LedgerWithSpans(ports.ledger, spans), outbox=outbox, tracing=spans)


class LedgerWithSpans:
    """ports.Ledger: the spans of a batch end with the batch."""

    def __init__(self, ledger: Ledger, spans: PathSpans) -> None:
        self._ledger, self._spans = ledger, spans

    def batch_done(self, batch: Batch, work: BatchOutput, written: WriteResult, seconds: Seconds) -> None:
        """Count one acked batch: log lines and exemplars that this leaves have the ids of the batch's span, if any.

        Raises what the ledger raises, and then the spans stay open for `forget`.
        """
        before = CURRENT.set(self._spans.of_batch(batch))
        self._ledger.batch_done(batch, work, written, seconds)
        CURRENT.reset(before)
        self._spans.done(batch, work, written)

    def batch_given_up(self, batch: Batch, reason: str) -> None:
        """The batch comes again: log it, and end its spans as interrupted."""
        self._ledger.batch_given_up(batch, reason)
        self._spans.given_up(batch, reason)


class OutboxWithSpans:
    """ports.Outbox: the alerts of traced messages carry the trace on, in the header `traceparent`."""

    def __init__(self, outbox: KafkaOutbox, spans: PathSpans) -> None:
        self._outbox, self._spans = outbox, spans

    async def send(
        self, events: Sequence[tuple[bytes, bytes]], answers: Sequence[Reply] = (), forwards: Sequence[Forward] = ()
    ) -> None:
        """Send as ports.Outbox says, and end the spans once Kafka has acked all. Raises TransientError when interrupted
        first.
        """
        if not self._spans.has_alerts:
            await self._outbox.send(events, answers, forwards)
            return
        spans = [self._spans.publish(text) for _, text in events]
        headers = [span.context.headers() if span.context else [] for span in spans]
        await self._outbox.send(events, answers, forwards, headers)
        for span in spans:
            span.end()
