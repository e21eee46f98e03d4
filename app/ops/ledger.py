"""What a finished batch leaves in logs and metrics; counted once, when it is acked, so that the books balance."""

import time
from collections import Counter
from typing import Any

import structlog

from app.core.work import Work
from app.core.write import Written
from app.ops import metrics
from app.pipeline import Seconds
from app.ports import Batch

log = structlog.get_logger()


class BatchLedger:
    """received = stored + duplicate + dead_lettered + dropped, per partition."""

    def batch_done(self, batch: Batch, work: Work, written: Written, seconds: Seconds) -> None:
        """Count one acked batch."""
        refused = len(written.refused) + len(written.refused_effects)
        outcomes = {
            "received": len(batch.records),
            "stored": written.rows + len(work.effects) - len(written.refused_effects),
            "duplicate": written.duplicates,
            "dead_lettered": len(work.rejected) + refused,
            "dropped_by_policy": sum(work.dropped.values()),
        }
        partition = str(batch.partition)
        for outcome, count in outcomes.items():
            if count:
                metrics.LEDGER.labels(partition, outcome).inc(count)
        for kind, count in work.kinds.items():
            metrics.RECEIVED.labels(kind).inc(count)
        metrics.STORED.inc(outcomes["stored"])
        metrics.DUPLICATE.inc(written.duplicates)
        self._count_dead_letters(work, refused)
        for policy, count in work.dropped.items():
            metrics.DROPPED.labels(policy).inc(count)
        for (status, severity), count in Counter((e.status, e.severity) for e in work.events).items():
            metrics.ALERTS.labels(status, severity).inc(count)
        self._time(batch, work, seconds)

    def batch_given_up(self, batch: Batch, reason: str) -> None:
        """A batch goes back un-acked: a rebalance or stop came while it waited for an outage to end."""
        log.warning(
            "batch_given_up",
            partition=batch.partition,
            first_offset=batch.first_offset,
            next_offset=batch.next_offset,
            reason=reason,
        )

    def _count_dead_letters(self, work: Work, refused: int) -> None:
        if not work.rejected and not refused:
            return
        for reason, count in Counter(one.reason for one in work.rejected).items():
            metrics.DEAD_LETTERS.labels(reason).inc(count)
        if refused:
            metrics.DEAD_LETTERS.labels("refused_by_database").inc(refused)
        sample = work.rejected[0] if work.rejected else None
        fields: dict[str, Any] = {"reason": sample.reason, "detail": sample.detail} if sample else {}
        log.warning("dead_letters", count=len(work.rejected) + refused, **fields)

    def _time(self, batch: Batch, work: Work, seconds: Seconds) -> None:
        metrics.BATCH_ROWS.observe(len(batch.records))
        metrics.BATCH_SECONDS.labels("process").observe(seconds.process)
        metrics.BATCH_SECONDS.labels("wait").observe(seconds.wait)
        metrics.BATCH_SECONDS.labels("store").observe(seconds.store)
        metrics.BATCH_SECONDS.labels("finish").observe(seconds.finish)
        if work.oldest is not None:
            metrics.EVENT_AGE.observe(max(0.0, time.time() - work.oldest))
