"""The records of a batch that are traced: in, all of them; out, the few, each with the context that it came with.

Nothing is done for each record: the processor, which has the headers at hand, has noted those that may bear a context.
"""

import time
from collections.abc import Sequence

from app.core.ingress.trace_budget import TraceBudget
from app.core.model.headers import PACKET_ID
from app.core.model.records import Record
from app.runtime.tracing.context import NOT_SAMPLED, TRACEPARENT, SpanContext, context_of
from app.runtime.tracing.metrics import INCOMING_LIMITED
from app.runtime.tracing.sampling import HeadSampling

Sampled = list[tuple[Record, SpanContext | None]]


def sampled_records(
    records: Sequence[Record], annotated: Sequence[Record], head: HeadSampling, budget: TraceBudget
) -> Sampled:
    """The records that their sender has sampled, within the budget, each with its context; and, of those that nobody
    has decided on, our own share, with None. In the order of their offsets; what is above the budget is counted.

    `annotated`: those of `records` that may bear a context (BatchOutput.annotated). Our bridge decides on the
    messages that it brings in at QoS 1 and 2, which have an MQTT packet id.
    """
    found: dict[int, tuple[Record, SpanContext | None]] = {}  # by offset
    for record in _not_plainly_refused(annotated) if head.parent_based else annotated:
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


def _not_plainly_refused(records: Sequence[Record]) -> list[Record]:
    """The records whose last header does not say that nobody is to trace them; a bridge may bring none of these.

    The flags are two hex digits, of which the last bit counts: what is not 00 has to be parsed.
    """
    return [
        one
        for one in records
        if not ((last := one.headers[-1])[1] and last[1].endswith(NOT_SAMPLED) and last[0] == TRACEPARENT)
    ]


def _sampled(headers: Sequence[tuple[str, bytes]], head: HeadSampling) -> SpanContext | None:
    context = context_of(headers)
    return context if context is not None and head.agrees(context) else None


def _is_decided(record: Record) -> bool:
    return any(name in (PACKET_ID, TRACEPARENT) for name, _ in record.headers)
