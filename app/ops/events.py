"""What happens to the connections of a worker: each event writes its log line and moves its metric, together.

Each class is the one implementation of a Protocol in the events.py of the package that reports.
"""

import time
from collections.abc import Collection, Sequence
from datetime import datetime

import structlog
from faust.types import TP

from app.ops import metrics
from app.ops.exemplars import exemplar
from app.ops.spans.failures import failed_call
from app.runtime.flushes import Flushes
from app.runtime.tracing.tracing import NO_TRACING, Tracing
from app.stream.rebalance.start_position import Position

log = structlog.get_logger()

REMIND_SECONDS = 60.0  # how often the same message is repeated to an operator
FAILURES_SECONDS = 5.0  # least time between two log lines about a part's failures
EXHAUSTED = {"53100": "disk", "53200": "memory", "53300": "connections"}  # SQLSTATE, with which the error's words begin
UNREADABLE_SECONDS = 5.0  # least time between two log lines about unreadable states


class StoreReport:
    """Events of the store (postgres/store/store.py)."""

    def __init__(self, flushes: Flushes | None = None, tracing: Tracing = NO_TRACING) -> None:
        """Transactions are noted in `flushes`."""
        self._flushes, self._tracing = flushes or Flushes(), tracing
        self._failures: dict[str, tuple[str, float, int]] = {}  # by part: logged last, when, how many since

    def breaker_opened(self, wait: float, error: str) -> None:
        """The database failed too often, last with `error`: nothing is tried for `wait` seconds; offsets are held."""
        metrics.BREAKER_STATE.set(1)
        log.error("circuit_breaker_OPENED", retry_in_seconds=round(wait, 1), error=error)

    def breaker_half_open(self) -> None:
        """One write is let through to see whether the database is back."""
        metrics.BREAKER_STATE.set(0.5)
        log.warning("circuit_breaker_HALF-OPEN")

    def breaker_closed(self) -> None:
        """The database is back."""
        metrics.BREAKER_STATE.set(0)
        log.warning("circuit_breaker_CLOSED")

    def write_rejected(self) -> None:
        """A write waits because the breaker is open."""
        metrics.BREAKER_REJECTED.inc()

    def write_finished(self, seconds: float, rows: int) -> None:
        """A transaction of so many rows is done, and took `seconds`."""
        metrics.DB_WRITE_SECONDS.observe(seconds, exemplar())
        self._flushes.add(rows, seconds)

    def copied(self, rows: int) -> None:
        """COPY put so many rows straight into the table."""
        metrics.COPIED_ROWS.inc(rows)

    def copy_failed(self, dead_rows: int) -> None:
        """Such a COPY met a duplicate or a bad row, and left so many dead rows at most; its rows are staged."""
        metrics.COPIES_FAILED.inc()
        metrics.COPY_DEAD_ROWS.inc(dead_rows)

    def abandoned_copies_ended(self, count: int) -> None:
        """Backends that waited for more of a COPY whose worker has given it up, or does not run, were ended."""
        log.warning("abandoned_copies_ended", count=count)

    def database_failed(self, part: str, kind: str, error: str) -> None:
        """A call of `part` (live, late, ...) failed and will be made again; many that fail alike share a log line.

        `kind` is transient or permanent; `error` begins with the SQLSTATE, if the server answered at all.
        """
        metrics.DB_FAILURES.labels(kind).inc()
        failed_call(self._tracing, error)
        if resource := EXHAUSTED.get(error[:5]):
            metrics.DB_EXHAUSTED.labels(resource).inc()
        reported, at, unreported = self._failures.get(part, ("", 0.0, 0))
        now = time.monotonic()
        if now >= at + (REMIND_SECONDS if error == reported else FAILURES_SECONDS):
            log.warning("database_failed", part=part, kind=kind, error=error, times=unreported + 1)
            self._failures[part] = (error, now, 0)
        else:
            self._failures[part] = (reported, at, unreported + 1)

    def late_rows(self, waiting: int) -> None:
        """So many late rows wait now."""
        metrics.LATE_WAITING.set(waiting)

    def config_left_out(self, user_id: str, came_in: datetime, partition: int | None, offset: int | None) -> None:
        """A configuration over MQTT is not the newest, so that it changes nothing.

        `came_in` is when the gateway took the message; `partition` and `offset` are its record's, None when not known.
        """
        metrics.CONFIGS_LEFT_OUT.inc()
        log.warning(
            "config_left_out",
            user_id=user_id,
            came_in=came_in.isoformat(),
            partition=partition,
            offset=offset,
            note="user_configs has a newer one: of a later message, or edited by hand after this came in",
        )

    def operator_needed(self, message: str) -> None:
        """Waiting alone will not help; `message` says what will."""
        metrics.OPERATOR_NEEDED.set(1)
        log.error("operator_needed", what=message)

    def operator_done(self) -> None:
        """Nobody has to act any more."""
        metrics.OPERATOR_NEEDED.set(0)
        log.warning("operator_no_longer_needed")


class WriteReport:
    """Events of the Kafka producer (kafka/producer.py)."""

    def __init__(self) -> None:
        self._reported: dict[str, tuple[str, float]] = {}  # by topic: what, and when

    def write_held(self, topic: str, attempts: int, error: str, cure: str | None) -> None:
        """Dead letters, alerts or states wait for Kafka, after `attempts` failures in a row; the offsets of their
        batches are held. `cure` says what an operator does; None: the outage passes by itself.
        """
        metrics.KAFKA_WRITE_HELD.labels(topic).set(1)
        now = time.monotonic()
        what, at = self._reported.get(topic, ("", 0.0))
        if cure and (what != cure or now >= at + REMIND_SECONDS):
            self._reported[topic] = (cure, now)
            log.error("operator_needed", what=cure, topic=topic, error=error, attempts=attempts)

    def write_resumed(self, topic: str) -> None:
        """Kafka takes writes to `topic` again, or this worker was interrupted and another worker tries."""
        metrics.KAFKA_WRITE_HELD.labels(topic).set(0)
        self._reported.pop(topic, None)
        log.warning("kafka_write_no_longer_held", topic=topic)


class TransportReport:
    """Events of the Faust transport (stream/transport.py)."""

    def gap_healed(self, tp: TP, expected: int, found: int) -> None:
        """The next batch began at `found` and not at `expected`: the partition is read again from there."""
        metrics.GAPS_HEALED.inc()
        log.warning("offset_gap_seeking_back", partition=tp.partition, expected=expected, found=found)

    def offsets_missing(self, tp: TP, expected: int, found: int) -> None:
        """Retention has removed the records from `expected` up to `found` (excluded) before they were read."""
        metrics.OFFSETS_MISSING.labels(str(tp.partition)).inc(found - expected)
        log.error("offsets_missing_in_log", partition=tp.partition, expected=expected, found=found)

    def log_made_anew(self, cause: str, partitions: Sequence[int]) -> None:
        """The topic is another one or was cut: offsets of these partitions begin anew; `cause` is for a person."""
        metrics.TOPIC_MADE_ANEW.labels("input").inc(len(partitions))
        log.error(
            "input_topic_made_anew",
            partitions=list(partitions),
            cause=cause,
            next="read from its start; devices keep their open alerts, and their offsets begin anew",
        )

    def log_in_doubt(self, what: str) -> None:
        """Nothing is read before it is known whether the log is still the same one; `what` says why it may not be."""
        log.warning("input_topic_in_doubt", what=what, next="nothing is read until the topic is looked up")

    def position_reset(self, tp: TP, position: Position) -> None:
        """The committed offset is outside the log; reading goes on at `position.offset`."""
        if position.committed is not None and position.committed < position.offset:
            metrics.OFFSETS_MISSING.labels(str(tp.partition)).inc(position.offset - position.committed)
        log.error(
            "committed_offset_outside_log",
            partition=tp.partition,
            committed=position.committed,
            continue_at=position.offset,
            cause="retention removed unread records, or the topic was made anew",
        )


class RebalanceReport:
    """Events of the consumer group (stream/rebalance/sensor.py)."""

    def rebalance_begins(self, generation: int, partitions: Collection[int]) -> None:
        """A worker came, went or was missed: every worker hands back its partitions and joins anew."""
        metrics.REBALANCES.inc()
        log.info("rebalance_begins", generation=generation, partitions=sorted(partitions))

    def rebalance_ended(
        self, generation: int, before: Collection[int], now: Collection[int], joined: float, seconds: float, rounds: int
    ) -> None:
        """Partitions are read again: `before` and `now` are this worker's, `joined` and `seconds` count from the
        beginning to the join and to this moment. `rounds` above 1: other workers came or went in the middle.
        """
        metrics.REBALANCE_SECONDS.observe(seconds)
        log.info(
            "rebalance_ended",
            generation=generation,
            partitions=sorted(now),
            gained=sorted(set(now) - set(before)),
            lost=sorted(set(before) - set(now)),
            joined_after=round(joined, 2),
            seconds=round(seconds, 2),
            rounds=rounds,
        )

    def first_batch(self, generation: int, partition: int, seconds: float) -> None:
        """The first batch since a rebalance began, `seconds` ago: records flow again."""
        log.info("rebalance_first_batch", generation=generation, partition=partition, seconds=round(seconds, 2))


class StateReport:
    """Events of the device table (tables/device_table.py)."""

    def __init__(self) -> None:
        self._reported, self._since = 0.0, 0  # when an unreadable state was logged last, and how many came since

    def state_unreadable(self, partition: int, key: bytes, error: str) -> None:
        """What is stored under a key (`user/device`) cannot be read: its device begins anew. Many at once share a log
        line.
        """
        metrics.STATES_UNREADABLE.inc()
        now = time.monotonic()
        if now < self._reported + UNREADABLE_SECONDS:
            self._since += 1
            return
        log.error(
            "state_unreadable",
            partition=partition,
            key=key.decode(errors="backslashreplace"),
            error=error,
            others=self._since,
            next="the device begins anew: an alert that it had open is not known any more",
        )
        self._reported, self._since = now, 0

    def states_moved(self, partition: int, states: int) -> None:
        """The changelog was made anew; all states of a partition, so many, are in it now."""
        metrics.TOPIC_MADE_ANEW.labels("states").inc()
        log.error("states_written_into_new_changelog", partition=partition, states=states)
