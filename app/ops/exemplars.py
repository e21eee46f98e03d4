"""The trace that a value of a histogram belongs to: in, the span that is at work; out, an exemplar, or none.

From a high bucket an exemplar leads to a batch in this bucket, and the batch's links lead to the messages.
"""

from app.runtime.tracing.tracing import CURRENT


def exemplar() -> dict[str, str] | None:
    """{"trace_id": 32 hex digits} of the span at work, if it is sampled.

    None where nothing is traced, which is nearly always, and always while tracing is off.
    """
    span = CURRENT.get()
    context = span.context if span is not None else None
    return {"trace_id": f"{context.trace_id:032x}"} if context is not None and context.sampled else None
