"""A call of the database that failed: an event of the span within which it was made, or else a span of its own."""

import re

from app.runtime.tracing import semconv
from app.runtime.tracing.tracing import CURRENT, SpanKind, Tracing

_SQLSTATE = re.compile(r"[0-9A-Z]{5}(?= )")  # how app.postgres.sqlstate.words begins, if the server answered at all


def failed_call(tracing: Tracing, error: str) -> None:
    """Note a failed call; `error` is the database's words, as app.postgres.sqlstate.words has them.

    The call is made again, so that the span around it has not failed. Without such a span the call gets its own, within
    the limit of `tracing.always`.
    """
    if not tracing.enabled:
        return
    found = _SQLSTATE.match(error)
    code = found[0] if found else error.partition(":")[0]
    if (span := CURRENT.get()) is not None:
        span.event("retry", {semconv.ERROR_TYPE: code, semconv.EXCEPTION_MESSAGE: error})
        span.set({semconv.DB_RESPONSE_STATUS_CODE: code})
    elif tracing.always():
        attributes = {semconv.DB_SYSTEM_NAME: semconv.POSTGRESQL, semconv.DB_RESPONSE_STATUS_CODE: code}
        span = tracing.span(semconv.STORE_TELEMETRY_BATCH, SpanKind.CLIENT, None, attributes)
        span.fail(code, error)
        span.end()
