"""User properties and payload -> W3C trace context as Kafka headers, only when well formed; never raises."""

import re
from typing import Any

import msgspec

_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[\x20-\x7e]{1,512}")  # 512 characters: what W3C asks every hop to carry


class _Context(msgspec.Struct, gc=False):
    traceparent: Any = None
    tracestate: Any = None


_decoder = msgspec.json.Decoder(_Context)


def trace_headers(properties: list[tuple[str, str]], payload: bytes) -> list[tuple[str, bytes]]:
    """`traceparent` and `tracestate`: from the MQTT 5 user properties when they hold a good one, else from the JSON."""
    if properties:
        named = dict(reversed(properties))  # the first of a repeated name
        if found := _headers(named.get("traceparent"), named.get("tracestate")):
            return found
    if b'"traceparent"' not in payload:  # spares nearly every message the JSON parser
        return []
    try:
        context = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return _headers(context.traceparent, context.tracestate)


def _headers(parent: object, state: object) -> list[tuple[str, bytes]]:
    if not isinstance(parent, str) or not _PARENT.fullmatch(parent.lower()):
        return []
    headers = [("traceparent", parent.lower().encode())]
    if isinstance(state, str) and _STATE.fullmatch(state):
        headers.append(("tracestate", state.encode()))
    return headers
