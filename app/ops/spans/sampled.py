"""The records of a batch that are traced: in, all of them; out, the few, each with the context that it came with.

This is the one thing done for each record while tracing is on: one look at the name of its last header.
"""

import time
from collections.abc import Sequence

from app.core.ingress.trace_budget import TraceBudget
from app.core.model.arrival import INGEST
from app.core.model.headers import PACKET_ID, RETAINED
from app.core.model.records import Record
from app.runtime.tracing.context import TRACEPARENT, SpanContext, context_of, plainly_not_sampled
from app.runtime.tracing.metrics import INCOMING_LIMITED
from app.runtime.tracing.sampling import HeadSampling

# A gateway puts these before a trace context: where one of them is the last header, there is none.
_BEFORE = frozenset(("mqtt_topic", "kind", INGEST, PACKET_ID, RETAINED))

Sampled = list[tuple[Record, SpanContext | None]]


def sampled_records(records: Sequence[Record], head: HeadSampling, budget: TraceBudget) -> Sampled:
    """Those that their sender has sampled, within the budget, and, of those that nobody has decided on, our own share.

    In their order. Our bridge decides on what it brings in at QoS 1 and 2, which is what has an MQTT packet id.
    """
    found: dict[int, SpanContext | None] = {}
    for at in [at for at, record in enumerate(records) if record.headers and record.headers[-1][0] not in _BEFORE]:
        if (context := _sampled(records[at].headers, head)) is not None:
            if budget.spend((records[at].key or b"").partition(b"/")[0], time.monotonic()):
                found[at] = context
            else:
                INCOMING_LIMITED.inc()
    for at in head.take(len(records)):
        if at not in found and not _is_decided(records[at]):
            found[at] = None
    return [(records[at], found[at]) for at in sorted(found)]


def _sampled(headers: Sequence[tuple[str, bytes]], head: HeadSampling) -> SpanContext | None:
    name, value = headers[-1]
    if name == TRACEPARENT and head.parent_based and plainly_not_sampled(value):
        return None
    context = context_of(headers)
    return context if context is not None and head.agrees(context) else None


def _is_decided(record: Record) -> bool:
    return any(name in (PACKET_ID, TRACEPARENT) for name, _ in record.headers)
