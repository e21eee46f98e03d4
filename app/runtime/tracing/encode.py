"""Spans -> one request of OTLP (ExportTraceServiceRequest) as protobuf; the numbers are the fields of trace.proto.

Most of a span is attributes, and most of these are the same from span to span: their bytes are kept.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from app.runtime.tracing.context import SpanContext
from app.runtime.tracing.recorded import RecordedSpan, SpanEvent
from app.runtime.tracing.tracing import Value

TEXT = 256  # characters of an attribute, and of the description of a failure
KEPT = 4096  # attributes: at most 5 MB

# The first byte of a field is its number and, in three bits, what follows: 2 is a length and so many bytes.
_RESOURCE_SPANS = _RESOURCE = _SCOPE = _KEY = _STRING = b"\x0a"
_SCOPE_SPANS = _SPANS = _VALUE = _EVENT_NAME = _STATUS_TEXT = b"\x12"
_EVENT_ATTRIBUTE = _TRACE_STATE = b"\x1a"
_NAME, _ATTRIBUTE, _EVENT, _LINK, _STATUS = b"\x2a", b"\x4a", b"\x5a", b"\x6a", b"\x7a"
_TRACE_ID, _SPAN_ID, _PARENT_ID = b"\x0a\x10", b"\x12\x08", b"\x22\x08"  # with their lengths
_KIND, _BOOL, _INT, _DOUBLE, _STATUS_ERROR = b"\x30", b"\x10", b"\x18", b"\x21", b"\x18\x02"
_times = struct.Struct("<cQcQ").pack
_fixed64 = struct.Struct("<cQ").pack
_double = struct.Struct("<cd").pack


def encode_request(spans: Iterable[RecordedSpan], resource: bytes, scope: bytes) -> bytes:
    """The bytes of an ExportTraceServiceRequest with the spans in their order; `resource` and `scope` are the messages
    Resource and InstrumentationScope, encoded.
    """
    body = b"".join([_field(_SPANS, encode_span(span)) for span in spans])
    scoped = _field(_SCOPE_SPANS, _field(_SCOPE, scope) + body)
    return _field(_RESOURCE_SPANS, _field(_RESOURCE, resource) + scoped)


def encode_span(span: RecordedSpan) -> bytes:
    """The bytes of a message Span. Texts are cut at TEXT characters; an end before the start becomes the start."""
    context, parent = span.context, span.parent
    parts = [
        _ids(context),
        _field(_TRACE_STATE, context.tracestate.encode()) if context.tracestate else b"",
        _PARENT_ID + parent.span_id.to_bytes(8, "big") if parent else b"",
        _name(span.name),
        _KIND + bytes((span.kind.value + 1,)),
        _times(b"\x39", span.started, b"\x41", max(span.started, span.ended)),
        *[_attribute(name, value) for name, value in span.attributes.items()],
        *[_field(_EVENT, _event(event)) for event in span.events],
        *[_field(_LINK, _ids(link)) for link in span.links],
        _field(_STATUS, _status(span.description)) if span.failed else b"",
    ]
    return b"".join(parts)


def clean(text: str) -> str:
    """The first TEXT characters of `text`, lone surrogates as backslash escapes.

    What a device calls itself may be long, or no text that protobuf can hold: one such span would cost a batch.
    """
    text = text[:TEXT]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _ids(context: SpanContext) -> bytes:
    return _TRACE_ID + context.trace_id.to_bytes(16, "big") + _SPAN_ID + context.span_id.to_bytes(8, "big")


def _event(event: SpanEvent) -> bytes:
    attributes = [_keyed(_EVENT_ATTRIBUTE, name, _value(value)) for name, value in event.attributes.items()]
    return b"".join([_fixed64(b"\x09", event.at), _field(_EVENT_NAME, clean(event.name).encode()), *attributes])


def _status(description: str) -> bytes:
    text = clean(description).encode()
    return (_field(_STATUS_TEXT, text) if text else b"") + _STATUS_ERROR


def _attribute(name: str, value: Value) -> bytes:
    if type(value) is str:
        return _text_attribute(name, value[:TEXT])
    return _keyed(_ATTRIBUTE, name, _value(value))


@lru_cache(maxsize=KEPT)
def _text_attribute(name: str, value: str) -> bytes:
    return _keyed(_ATTRIBUTE, name, _value(value))


def _keyed(field: bytes, name: str, value: bytes) -> bytes:
    """A KeyValue."""
    return _field(field, _key(name) + _field(_VALUE, value))


def _value(value: Value) -> bytes:
    """An AnyValue."""
    if isinstance(value, str):
        return _field(_STRING, clean(value).encode())
    if isinstance(value, bool):
        return _BOOL + (b"\x01" if value else b"\x00")
    if isinstance(value, int):
        return _INT + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    return _double(_DOUBLE, value)


@lru_cache(maxsize=256)
def _key(name: str) -> bytes:
    return _field(_KEY, name.encode())


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    return _field(_NAME, clean(name).encode())


def _field(head: bytes, body: bytes) -> bytes:
    return head + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SMALL[number]
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL: Sequence[bytes] = [bytes((number,)) for number in range(0x80)]
