"""The books: what is counted of a batch adds up, per partition."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.core.batch import books
from app.core.batch.effects import Effect, Statement, WriteResult
from app.core.batch.output import BatchOutput
from app.core.deadletters.limit import DeadLetterLimit
from app.core.model.alert_event import AlertEvent, Status
from app.core.model.records import Kind, Reason, Record, Rejected, Stage
from app.ops.ledger import BatchLedger
from app.ops.rejections import Rejections
from app.ports import Seconds
from tests.unit.records import NOW, Message

SECONDS = Seconds(0.1, 0.2, 0.3, 0.4)


class Given:
    topic, first_offset, next_offset, epoch = "in", 0, 0, 1

    def __init__(self, partition: int, count: int) -> None:
        self.partition = partition
        self.records: Sequence[Record] = [Message(offset=n) for n in range(count)]

    def current(self) -> bool:
        return True

    async def ack(self) -> None:
        raise AssertionError("only the pipeline acks")


class Counted:
    """How much each sample grew since."""

    def __init__(self) -> None:
        self._before = self._all()

    def _all(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for metric in REGISTRY.collect()
            for sample in metric.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return self._all().get(key, 0.0) - self._before.get(key, 0.0)

    def books(self, partition: int) -> dict[str, float]:
        names = ("received", "stored", "duplicate", "dead_lettered", "dropped_by_policy")
        return {name: self("iot_ledger_total", partition=str(partition), outcome=name) for name in names}


def rejected(offset: int, reason: Reason) -> Rejected:
    return Rejected(Message(offset=offset), reason, Stage.DECODE, "what is wrong")


def work_of_ten() -> tuple[BatchOutput, WriteResult]:
    """Rows: 3 new, 1 duplicate, 1 refused. Effects: 1 done, 1 refused. 2 rejected and 1 dropped: 10 records."""
    work = BatchOutput()
    work.rows += [()] * 5
    work.sources += [Message(offset=n) for n in (0, 3, 4, 5, 6)]
    work.effect_sources += [Message(offset=n) for n in (7, 8)]
    work.effects += [Effect(Statement.UPSERT_CONFIG, ("u", "[]", None, NOW))] * 2
    work.rejected += [rejected(1, Reason.BAD_JSON), rejected(2, Reason.TOO_DEEP)]
    work.dropped["silence"] = 1
    work.kinds |= {Kind.TELEMETRY: 7, Kind.CONFIG: 2, Kind.SILENCE: 1}
    return work, WriteResult(3, 1, ((4, "no"),), ((1, "no"),))


@pytest.mark.parametrize("partition", [0, 11])
def test_the_books_balance(partition: int) -> None:
    counted, (work, written) = Counted(), work_of_ten()
    BatchLedger().batch_done(Given(partition, 10), work, written, SECONDS)
    books = counted.books(partition)
    assert books == {"received": 10, "stored": 4, "duplicate": 1, "dead_lettered": 4, "dropped_by_policy": 1}
    assert books.pop("received") == sum(books.values())
    assert counted.books(partition + 1)["received"] == 0


def test_the_totals_say_the_same() -> None:
    counted, (work, written) = Counted(), work_of_ten()
    BatchLedger().batch_done(Given(0, 10), work, written, SECONDS)
    assert counted("iot_rows_stored_total") == 3, "rows, and nothing that was carried out"
    assert counted("iot_records_carried_out_total") == 1
    assert counted("iot_rows_duplicate_total") == 1
    assert {kind: counted("iot_messages_received_total", kind=kind) for kind in work.kinds} == work.kinds
    reasons = {"bad_json": 1, "too_deep": 1, "refused_by_database": 2}
    assert {reason: counted("iot_dead_letters_total", reason=reason) for reason in reasons} == reasons
    assert counted("iot_dropped_total", policy="silence") == 1


def test_stages_and_sizes_are_measured_once_a_batch() -> None:
    counted, (work, written) = Counted(), work_of_ten()
    work.oldest = time.time() - 60
    BatchLedger().batch_done(Given(0, 10), work, written, SECONDS)
    stages = {stage: counted("iot_batch_seconds_sum", stage=stage) for stage in ("process", "wait", "store", "finish")}
    assert stages == pytest.approx({"process": 0.1, "wait": 0.2, "store": 0.3, "finish": 0.4})
    assert (counted("iot_batch_rows_count"), counted("iot_batch_rows_sum")) == (1, 10)
    assert counted("iot_event_age_seconds_sum") == pytest.approx(60, abs=5)


def test_an_event_from_the_future_has_no_negative_age() -> None:
    counted, work = Counted(), BatchOutput()
    work.oldest = time.time() + 60
    BatchLedger().batch_done(Given(0, 1), work, WriteResult(1), SECONDS)
    assert counted("iot_event_age_seconds_sum") == 0


def test_alerts_are_counted_by_status_and_severity() -> None:
    counted, work, now = Counted(), BatchOutput(), datetime.now(UTC)

    def alert(status: Status, severity: str) -> AlertEvent:
        return AlertEvent("id", "u", "d", "r", status, severity, "m", 1.0, 2.0, now, now)

    work.events += [alert(Status.FIRING, "critical")] * 2 + [alert(Status.RESOLVED, "info")]
    BatchLedger().batch_done(Given(0, 3), work, WriteResult(3), SECONDS)
    assert counted("iot_alerts_total", status="FIRING", severity="critical") == 2
    assert counted("iot_alerts_total", status="RESOLVED", severity="info") == 1


def test_normal_work_logs_nothing_and_dead_letters_one_line_a_reason() -> None:
    with capture_logs() as logs:
        BatchLedger().batch_done(Given(0, 1), BatchOutput(), WriteResult(1), SECONDS)
    assert logs == []
    with capture_logs() as logs:
        BatchLedger().batch_done(Given(2, 10), *work_of_ten(), SECONDS)
    line: dict[str, Any] = {"event": "dead_letters", "log_level": "warning", "partition": 2, "key": "u1/d1"}
    assert logs == [
        line | {"reason": "bad_json", "count": 1, "offset": 1, "detail": "what is wrong"},
        line | {"reason": "too_deep", "count": 1, "offset": 2, "detail": "what is wrong"},
        line | {"reason": "refused_by_database", "count": 2, "offset": 6, "detail": "no"},
    ]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_flood_of_dead_letters_is_a_line_a_reason_and_interval() -> None:
    clock = Clock()
    rejections = Rejections(10.0, clock)
    with capture_logs() as logs:
        for _ in range(1000):
            rejections.add(1, [rejected(7, Reason.BAD_JSON)] * 5)
        assert [line["count"] for line in logs] == [5]
        clock.now += 10
        rejections.report()
        rejections.report()
    assert [line["count"] for line in logs] == [5, 4995]
    with capture_logs() as logs:
        clock.now += 60
        rejections.report()
    assert logs == []


def test_good_batches_end_a_row_of_dead_letters() -> None:
    limit = DeadLetterLimit(10, 1.0, 100)
    batch = Given(0, 8)
    assert limit.check(batch.records, [rejected(n, Reason.BAD_JSON) for n in range(8)]) is None
    assert limit.row == 1  # all records are of one device
    work = BatchOutput()
    work.rows.append((NOW, "u2", "d1"))
    BatchLedger(limit).batch_done(Given(0, 1), work, WriteResult(1), SECONDS)
    assert limit.row == 0


def test_a_batch_given_up_is_logged_and_not_counted() -> None:
    counted = Counted()
    with capture_logs() as logs:
        BatchLedger().batch_given_up(Given(3, 10), "interrupted")
    assert (logs[0]["event"], logs[0]["partition"], logs[0]["reason"]) == ("batch_given_up", 3, "interrupted")
    assert set(counted.books(3).values()) == {0}


def test_a_refused_row_of_an_alert_is_counted_and_is_nobody_s_dead_letter() -> None:
    config = Effect(Statement.UPSERT_CONFIG, ("u", "[]", None, NOW))
    row = Effect(Statement.DELETE_ACTIVE_ALERT, ("u", "d", "r", datetime(2026, 1, 1, tzinfo=UTC), ""))
    record = Message(offset=0)
    work = BatchOutput(effects=[config], effect_sources=[record], alert_effects=[row, row])
    written = WriteResult(refused_effects=((2, "no such column"),))
    before = REGISTRY.get_sample_value("iot_alert_rows_refused_total") or 0.0
    with capture_logs() as logs:
        BatchLedger().batch_done(Given(93, 1), work, written, SECONDS)
    assert REGISTRY.get_sample_value("iot_alert_rows_refused_total") == before + 1
    assert [(line["event"], line["error"]) for line in logs] == [("alert_rows_refused", "no such column")]
    assert work.refusals((), written.refused_effects) == []
    assert books.count([record], work, written) == books.Books(1, 1, 0, 0, 0)
