"""A failed call of the database: an event of the span around it, with its SQLSTATE; else a span of its own."""

from opentelemetry.trace import StatusCode

from app.ops.events import StoreReport
from app.runtime.tracing import semconv
from app.runtime.tracing.tracing import CURRENT
from tests.spans import Recorded, attributes

DEADLOCK = "40P01 deadlock detected; Process 1 waits"


def test_within_a_span_it_is_a_retry() -> None:
    recorded = Recorded()
    span = recorded.tracing.span(semconv.STORE_TELEMETRY_BATCH)
    within = CURRENT.set(span)
    StoreReport(tracing=recorded.tracing).database_failed("writes", "transient", DEADLOCK)
    CURRENT.reset(within)
    span.end()
    (found,) = recorded.spans()
    (event,) = found.events
    assert event.name == "retry"
    assert dict(event.attributes or {}) == {"error.type": "40P01", "exception.message": DEADLOCK}
    assert attributes(found)["db.response.status_code"] == "40P01"
    assert found.status.status_code is StatusCode.UNSET


def test_else_it_has_a_span_of_its_own_with_a_limit() -> None:
    recorded = Recorded(always=1)
    report = StoreReport(tracing=recorded.tracing)
    report.database_failed("writes", "transient", DEADLOCK)
    report.database_failed("writes", "transient", "ConnectionRefusedError: nobody there")
    (found,) = recorded.spans()
    assert (found.name, found.status.status_code) == ("store_telemetry_batch", StatusCode.ERROR)
    assert attributes(found)["error.type"] == "40P01"


def test_a_failure_without_a_sqlstate_is_called_by_its_class() -> None:
    recorded = Recorded()
    StoreReport(tracing=recorded.tracing).database_failed("writes", "transient", "ConnectionRefusedError: nobody there")
    assert attributes(recorded.spans()[0])["error.type"] == "ConnectionRefusedError"


def test_off_it_is_only_counted() -> None:
    StoreReport().database_failed("writes", "transient", DEADLOCK)
