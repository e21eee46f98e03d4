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
# Most records end with INGEST, and to compare costs less than to look up a name that was decoded just now.
_BEFORE = frozenset(("mqtt_topic", "kind", INGEST, PACKET_ID, RETAINED))

Sampled = list[tuple[Record, SpanContext | None]]


def sampled_records(records: Sequence[Record], head: HeadSampling, budget: TraceBudget) -> Sampled:
    """The records that their sender has sampled, within the budget, each with its context; and, of those that nobody
    has decided on, our own share, with None. In the order of their offsets; what is above the budget is counted.

    Our bridge decides on what it brings in at QoS 1 and 2, which is what has an MQTT packet id.
    """
    found: dict[int, tuple[Record, SpanContext | None]] = {}  # by offset
    for record in [
        one for one in records if (last := one.headers) and (name := last[-1][0]) != INGEST and name not in _BEFORE
    ]:
        if (context := _sampled(record.headers, head)) is not None:
            if budget.spend((record.key or b"").partition(b"/")[0], time.monotonic()):
                found[record.offset] = record, context
            else:
                INCOMING_LIMITED.inc()
    for at in head.take(len(records)):
        record = records[at]
        if record.offset not in found and not _is_decided(record):
            found[record.offset] = record, None
    return [found[offset] for offset in sorted(found)]


def _sampled(headers: Sequence[tuple[str, bytes]], head: HeadSampling) -> SpanContext | None:
    name, value = headers[-1]
    if name == TRACEPARENT and head.parent_based and plainly_not_sampled(value):
        return None
    context = context_of(headers)
    return context if context is not None and head.agrees(context) else None


def _is_decided(record: Record) -> bool:
    return any(name in (PACKET_ID, TRACEPARENT) for name, _ in record.headers)
