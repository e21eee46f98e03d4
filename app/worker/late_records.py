"""A partition whose records wait too long, in the log, in words: which, since when, why, and what to look at.

One line a minute and partition, and a last line when the wait is over. A partition is late from the second look on
that finds a record older than the limit, and no longer once no record is older than half the limit, so that the lines
do not alternate. A partition that went to another worker is reported by that worker.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog
from faust.types import TP

from app.worker.waiting_time import Waiting

log = structlog.get_logger()

REMIND_SECONDS = 60.0  # between two lines about a partition


@dataclass(slots=True)
class _Late:
    """A partition that is late, or was late at one look."""

    since: float
    logged_at: float | None = None  # None: one look alone has found it late


class LateRecords:
    """Writes the lines; `look` is to be called about every second. Times are seconds of a clock that is never set."""

    def __init__(self, limit: float) -> None:
        """`limit`: seconds that a record may wait; 0: nobody is warned."""
        self._limit = limit
        self._late: dict[TP, _Late] = {}
        self._before: dict[TP, tuple[float, Waiting]] = {}  # when a partition was on time, new, or logged, last

    def look(self, waiting: Mapping[TP, Waiting], cause: str | None, clock: float) -> None:
        """`waiting` are all partitions of this worker; `cause`: what keeps the worker from going on, None where not
        known; `clock` is the time of this look.
        """
        if not self._limit:
            return
        for known in (self._late, self._before):
            for tp in [tp for tp in known if tp not in waiting]:
                del known[tp]
        for tp, now in waiting.items():
            late = self._late.get(tp)
            if late is None and now.seconds <= self._limit:
                self._before[tp] = clock, now
            elif late is None:
                self._late[tp] = _Late(clock - now.seconds)
                self._before.setdefault(tp, (clock, now))
            elif now.seconds <= self._limit / 2 or (late.logged_at is None and now.seconds <= self._limit):
                self._on_time(tp, late, clock)
                self._before[tp] = clock, now
            elif late.logged_at is None or clock - late.logged_at >= REMIND_SECONDS:
                late.logged_at = clock
                self._log_late(tp, now, cause, clock)
                self._before[tp] = clock, now

    def _log_late(self, tp: TP, now: Waiting, cause: str | None, clock: float) -> None:
        at, before = self._before[tp]
        passed = max(clock - at, 1e-3)
        done, came = (now.done - before.done) / passed, (now.end - before.end) / passed
        log.warning(
            "records_late",
            partition=tp.partition,
            seconds=round(now.seconds, 1),
            records=now.records,
            done_per_second=round(done),
            coming_per_second=round(came),
            cause=cause or _by_rates(now, done, came),
            note="nothing is lost: they wait in Kafka",
        )

    def _on_time(self, tp: TP, late: _Late, clock: float) -> None:
        del self._late[tp]
        if late.logged_at is not None:
            log.warning("records_on_time", partition=tp.partition, late_for_seconds=round(clock - late.since))


def known_cause(breaker_open: bool, kafka_answers: bool, held: Collection[str]) -> str | None:
    """What keeps this worker from going on, in words, None where the cause is not known; `held`: names of what
    /ready says is held up.
    """
    if breaker_open:
        return "the database does not take writes, its circuit breaker is open: /ready says why"
    if not kafka_answers:
        return "Kafka does not answer the heartbeats of this worker: is it up, and can it be reached from here?"
    if held:
        return f"held up, see /ready: {', '.join(sorted(held))}"
    return None


def _by_rates(now: Waiting, done: float, came: float) -> str:
    """The cause that the numbers suggest, and where to look."""
    if done < 0.5:
        return "nothing is done: look at /ready, at iot_batch_seconds for the stage, and at the lines before this one"
    if done > came:
        seconds = now.records / (done - came)
        return f"catching up after a restart, an outage or a burst: even in about {seconds:.0f} s at this rate"
    return "more comes in than is done: iot_batch_seconds says which stage is slow; more workers, or a faster database"
