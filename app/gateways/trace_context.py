"""User properties and payload -> W3C trace context as Kafka headers, only when well formed; never raises.

Whoever may publish may put there what he likes. What is not well formed is left out, and counted once a message; the
message goes its way. `baggage` is not carried on at all.
"""

import re
from typing import Any

import msgspec

from app.runtime.tracing.context import PARENT, STATE, TRACEPARENT, TRACESTATE
from app.runtime.tracing.metrics import CONTEXTS_INVALID

_PARENT_LENGTH = 55  # asked first: a payload may hold a megabyte of it
_BAGGAGE = re.compile(r"[\x20-\x7e]{0,8192}")  # W3C's limit


class _Context(msgspec.Struct, gc=False):
    traceparent: Any = None
    tracestate: Any = None


_decoder = msgspec.json.Decoder(_Context)
_Headers = list[tuple[str, bytes]]


def trace_headers(properties: list[tuple[str, str]], payload: bytes) -> _Headers:
    """`tracestate`, if there is one, and `traceparent`, which is the last of a record's headers; none where no
    well-formed one is there. Never raises.

    From the MQTT 5 user properties when they hold a good one, else from the JSON of `payload`.
    """
    named = dict(reversed(properties))  # the first of a repeated name
    found, sound = _headers(named.get(TRACEPARENT), named.get(TRACESTATE))
    sound = sound and not (properties and _hostile(properties))
    if not found and b'"traceparent"' in payload:  # spares nearly every message the JSON parser
        found, well = _from_json(payload)
        sound = sound and well
    if not sound:
        CONTEXTS_INVALID.inc()
    return found


def _from_json(payload: bytes) -> tuple[_Headers, bool]:
    try:
        context = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [], True  # what is wrong with the payload its dead letter says
    return _headers(context.traceparent, context.tracestate)


def _headers(parent: object, state: object) -> tuple[_Headers, bool]:
    """The headers, and whether all that was there is well formed. A state without its parent means nothing."""
    if parent is None:
        return [], True
    if not isinstance(parent, str) or len(parent) != _PARENT_LENGTH or not PARENT.fullmatch(parent.lower()):
        return [], False
    headers = [(TRACEPARENT, parent.lower().encode())]
    if state is None or state == "":
        return headers, True
    if not isinstance(state, str) or not STATE.fullmatch(state):
        return headers, False
    return [(TRACESTATE, state.encode()), *headers], True


def _hostile(properties: list[tuple[str, str]]) -> bool:
    """Whether they say twice what is said once, or hold a baggage that is none."""
    names = [name for name, _ in properties if name in (TRACEPARENT, TRACESTATE)]
    return len(names) > len(set(names)) or any(
        name == "baggage" and not _BAGGAGE.fullmatch(value) for name, value in properties
    )
