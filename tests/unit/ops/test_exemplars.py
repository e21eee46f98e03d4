"""The trace id that a value of a histogram carries to /metrics."""

import re
import time
from typing import Any

import pytest

from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput
from app.core.ingress.trace_budget import TraceBudget
from app.ops.events import StoreReport
from app.ops.exemplars import exemplar
from app.ops.http_messages import Request
from app.ops.ledger import BatchLedger
from app.ops.metrics_page import metrics_page
from app.ops.spans.path import PathSpans
from app.ops.spans.wrapped import LedgerWithSpans
from app.runtime.tracing import semconv
from app.runtime.tracing.tracing import CURRENT
from tests.spans import NOT_SAMPLED, REMOTE, SAMPLED, Recorded
from tests.unit.ops.test_ledger import SECONDS, Given
from tests.unit.records import TOPIC, Message


async def exemplars(histogram: str) -> set[str]:
    """Trace ids on a histogram, as Prometheus is given them."""
    page = (await metrics_page(Request("GET", "/metrics", "HTTP/1.1", "application/openmetrics-text"))).body.decode()
    return set(re.findall(rf'^{histogram}_bucket.* # {{trace_id="([0-9a-f]{{32}})"}} ', page, re.M))


def headers(context: bytes) -> Any:
    return [("mqtt_topic", TOPIC.encode()), ("kind", b"telemetry"), ("traceparent", context)]


@pytest.mark.parametrize(("context", "traced"), [(SAMPLED, True), (NOT_SAMPLED, False)])
async def test_the_age_of_a_batch_has_its_trace_if_a_message_of_it_is_sampled(context: bytes, traced: bool) -> None:
    recorded, before = Recorded(), await exemplars("iot_event_age_seconds")
    spans = PathSpans(recorded.tracing, "iot-worker", TraceBudget(1_000_000))
    batch, work = Given(0, 1), BatchOutput(oldest=time.time() - 2)
    batch.records = [Message(headers=headers(context))]
    work.annotated = list(batch.records)
    spans.taken(batch)
    spans.processed(batch, work, 0.01)
    LedgerWithSpans(BatchLedger(), spans).batch_done(batch, work, WriteResult(1), SECONDS)
    wanted = {f"{span.context.trace_id:032x}" for span in recorded.spans("batch_flush") if span.context}
    assert len(wanted) == traced
    assert await exemplars("iot_event_age_seconds") - before == wanted


async def test_a_transaction_has_the_trace_within_which_it_is_made() -> None:
    recorded, report = Recorded(), StoreReport()
    report.write_finished(0.02, 5)
    assert f"{REMOTE.trace_id:032x}" not in await exemplars("iot_db_write_seconds")
    before = CURRENT.set(recorded.tracing.span(semconv.STORE_TELEMETRY_BATCH, parent=REMOTE))
    report.write_finished(0.02, 5)
    CURRENT.reset(before)
    assert f"{REMOTE.trace_id:032x}" in await exemplars("iot_db_write_seconds")


def test_without_a_span_there_is_none() -> None:
    assert exemplar() is None
