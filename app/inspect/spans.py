"""A trace as Tempo answers it (OTLP in JSON) -> its spans, and their tree: pure, whatever the answer holds."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from app.inspect.text import shown
from app.runtime.tracing.semconv import OUTCOME, REASON, SERVICE_NAME

MOST = 1_000  # spans that are shown
DEEPEST = 50  # levels that are indented
_BELOW = {"": "", "├─ ": "│  ", "└─ ": "   "}  # the prefix of the children of a span with such a branch
_HEX = frozenset("0123456789abcdefABCDEF")


class FoundSpan(Struct, frozen=True):
    """A span of a trace. Ids are hex digits; times microseconds since 1970."""

    trace_id: str
    span_id: str
    parent_id: str  # empty for a root
    name: str
    service: str
    start_us: int
    duration_us: int
    error: str = ""  # what its status says when that is an error
    attributes: dict[str, str] = {}


class _Value(Struct):
    key: str = ""
    value: dict[str, Any] = {}


class _Status(Struct):
    code: int | str = 0
    message: str = ""


class _Span(Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    name: str = ""
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[_Value] = []
    status: _Status = field(default_factory=_Status)


class _Scope(Struct, rename="camel"):
    spans: list[_Span] = []


class _Resource(Struct):
    attributes: list[_Value] = []


class _Batch(Struct, rename="camel"):
    resource: _Resource = field(default_factory=_Resource)
    scope_spans: list[_Scope] = []
    instrumentation_library_spans: list[_Scope] = []  # of Tempo before 2.0


class _Batches(Struct, rename="camel"):
    batches: list[_Batch] = []  # of /api/traces
    resource_spans: list[_Batch] = []  # of /api/v2/traces


class _TraceAnswer(_Batches, rename="camel"):
    trace: _Batches = field(default_factory=_Batches)


_decode = msgspec.json.Decoder(_TraceAnswer).decode


def spans_of(answer: bytes) -> list[FoundSpan]:
    """The spans of an answer of Tempo, the earliest first. Raises ValueError for what is none."""
    try:
        found = _decode(answer)
        batches = (*found.batches, *found.resource_spans, *found.trace.batches, *found.trace.resource_spans)
        spans = [
            _span(span, service)
            for batch in batches
            for service in [_attributes(batch.resource.attributes).get(SERVICE_NAME, "")]
            for scope in (*batch.scope_spans, *batch.instrumentation_library_spans)
            for span in scope.spans
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"this is no trace: {error}") from None
    return sorted(spans, key=lambda one: one.start_us)


def tree(spans: Sequence[FoundSpan]) -> Iterator[tuple[str, FoundSpan]]:
    """Each span once, the first MOST of them, with the branches that stand before its name; a span whose parent is
    missing is a root.
    """
    spans = spans[:MOST]
    there = {one.span_id for one in spans}
    children: dict[str, list[FoundSpan]] = {}
    for one in spans:
        children.setdefault(one.parent_id if one.parent_id in there else "", []).append(one)
    stack = [(one, "", "") for one in reversed(children.pop("", []))]
    while stack:  # no recursion: a stranger's trace may be as deep as it is long
        span, indent, branch = stack.pop()
        yield indent + branch, span
        below = reversed(children.pop(span.span_id, []))
        deeper = (indent + _BELOW[branch])[: 3 * DEEPEST]
        stack += [(one, deeper, "├─ " if later else "└─ ") for later, one in enumerate(below)]
    for ring in children.values():  # each is below another of them
        yield from (("", one) for one in ring)


def duration(us: int) -> str:
    """Microseconds for a person, in us, ms or s."""
    return f"{us} us" if us < 1_000 else f"{us / 1_000:.3g} ms" if us < 1_000_000 else f"{us / 1_000_000:.3g} s"


def words(span: FoundSpan, begin_us: int) -> str:
    """A span as one line: name, duration, how long it began after `begin_us` (microseconds since 1970), service, error;
    without characters that a terminal acts on.
    """
    later = duration(max(0, span.start_us - begin_us))
    parts = [shown(span.name), duration(span.duration_us), f"+{later}", shown(span.service)]
    parts += [shown(span.attributes[name]) for name in (OUTCOME, REASON) if name in span.attributes]
    return " ".join(filter(None, [*parts, f"ERROR {shown(span.error)}" if span.error else ""]))


def _span(span: _Span, service: str) -> FoundSpan:
    start, end = _number(span.start_time_unix_nano), _number(span.end_time_unix_nano)
    failed = span.status.code in (2, "STATUS_CODE_ERROR")
    return FoundSpan(
        _hex(span.trace_id, 16), _hex(span.span_id, 8), _hex(span.parent_span_id, 8), span.name, service,
        start // 1000, max(0, end - start) // 1000, (span.status.message or "error") if failed else "",
        _attributes(span.attributes),
    )  # fmt: skip


def _attributes(values: Iterable[_Value]) -> dict[str, str]:
    """Each value as text, whatever its type."""
    return {one.key: str(next(iter(one.value.values()), "")) for one in values}


def _number(value: int | str) -> int:
    """Raises ValueError."""
    text = str(value)
    return int(text) if len(text) < 25 else 0


def _hex(text: str, size: int) -> str:
    """An id: hex digits as OTLP has them in JSON, or base64 as Tempo does."""
    if len(text) == 2 * size and set(text) <= _HEX:
        return text.lower()
    try:
        return b64decode(text, validate=True).hex()
    except (Base64Error, ValueError):
        return text
