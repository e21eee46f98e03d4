"""What a finished batch leaves in logs and metrics; counted once, when it is acked, so that the books balance."""

import time
from collections import Counter

import structlog

from app.core.batch import books
from app.core.batch.batch import Batch
from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput
from app.core.deadletters.limit import DeadLetterLimit
from app.core.ingress.tenant_freshness import TenantFreshness
from app.core.model.records import Reason
from app.ops import metrics
from app.ops.exemplars import exemplar
from app.ops.rejections import Rejections
from app.ports import Seconds

log = structlog.get_logger()


class BatchLedger:
    """received = stored + duplicate + dead_lettered + dropped, per partition."""

    def __init__(
        self,
        limit: DeadLetterLimit | None = None,
        rejections: Rejections | None = None,
        freshness: TenantFreshness | None = None,
    ) -> None:
        """`limit` gets how many records of each batch were dead letters; None: there is no limit. `freshness` None: no
        tenant has a series of its own.
        """
        self._limit, self._rejections, self._freshness = limit, rejections or Rejections(), freshness

    def batch_done(self, batch: Batch, work: BatchOutput, written: WriteResult, seconds: Seconds) -> None:
        """Count one acked batch, and log what is unusual in it. Raises BooksError when its books do not balance."""
        found = books.count(batch.records, work, written)
        partition = str(batch.partition)
        for outcome, number in found._asdict().items():
            if number:
                metrics.LEDGER.labels(partition, outcome).inc(number)
        for kind, count in work.kinds.items():
            metrics.RECEIVED.labels(kind).inc(count)
        metrics.STORED.inc(written.rows)
        metrics.CARRIED_OUT.inc(found.stored - written.rows)
        metrics.DUPLICATE.inc(found.duplicate)
        self._count_dead_letters(batch, work, written)
        if self._limit:
            users = (work.rows[0][1], work.rows[-1][1]) if work.rows else ()
            self._limit.done(found.received, found.dead_lettered, users)
        for policy, count in work.dropped.items():
            metrics.DROPPED.labels(policy).inc(count)
        for (status, severity), count in Counter((e.status, e.severity) for e in work.events).items():
            metrics.ALERTS.labels(status, severity).inc(count)
        if work.suppressed:
            metrics.ALERTS_SUPPRESSED.inc(work.suppressed)
        for skew in work.skews:
            metrics.CLOCK_SKEW.observe(skew)
        if work.set_back:
            metrics.CLOCKS_SET_BACK.inc(len(work.set_back))
            one = work.set_back[0]
            log.warning(
                "device_clock_set_back",
                devices=len(work.set_back),
                user_id=one.user_id,
                device_id=one.device_id,
                seconds=one.seconds,
            )
        self._count_refused_alerts(batch, work, written)
        self._note_tenants(batch, work, written)
        self._time(batch, work, seconds)

    def batch_given_up(self, batch: Batch, reason: str) -> None:
        """Log that a batch goes back un-acked: a rebalance or stop came while it waited for an outage to end. Nothing
        of the batch is counted.
        """
        log.warning(
            "batch_given_up",
            partition=batch.partition,
            first_offset=batch.first_offset,
            next_offset=batch.next_offset,
            reason=reason,
        )

    def _count_dead_letters(self, batch: Batch, work: BatchOutput, written: WriteResult) -> None:
        if not work.rejected and not written.refused and not written.refused_effects:
            return
        dead = work.rejected + work.refusals(written.refused, written.refused_effects)
        for reason, count in Counter(one.reason for one in dead).items():
            metrics.DEAD_LETTERS.labels(reason).inc(count)
            if reason is Reason.INVALID_RULES:
                metrics.RULES_REFUSED.inc(count)
        self._rejections.add(batch.partition, dead)

    def _count_refused_alerts(self, batch: Batch, work: BatchOutput, written: WriteResult) -> None:
        """No record is to blame for them, so they are no dead letters; the alert itself is sent."""
        refused = [words for index, words in written.refused_effects if index >= len(work.effects)]
        if refused:
            metrics.ALERT_ROWS_REFUSED.inc(len(refused))
            log.error("alert_rows_refused", partition=batch.partition, count=len(refused), error=refused[0])

    def _note_tenants(self, batch: Batch, work: BatchOutput, written: WriteResult) -> None:
        if self._freshness is None or not work.rows:
            return
        rows, sources = work.rows, work.sources
        if written.refused:
            refused = {index for index, _ in written.refused}
            kept = [index for index in range(len(rows)) if index not in refused]
            rows, sources = [rows[index] for index in kept], [sources[index] for index in kept]
        self._freshness.stored(batch.epoch, rows, sources, time.monotonic(), time.time())

    def _time(self, batch: Batch, work: BatchOutput, seconds: Seconds) -> None:
        metrics.BATCH_ROWS.observe(len(batch.records))
        metrics.BATCH_SECONDS.labels("process").observe(seconds.process)
        metrics.BATCH_SECONDS.labels("wait").observe(seconds.wait)
        metrics.BATCH_SECONDS.labels("store").observe(seconds.store)
        metrics.BATCH_SECONDS.labels("finish").observe(seconds.finish)
        if work.oldest is not None:
            metrics.EVENT_AGE.observe(max(0.0, time.time() - work.oldest), exemplar())
