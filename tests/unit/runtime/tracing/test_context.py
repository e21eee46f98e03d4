"""Trace contexts of messages: what is well formed is taken, all else ignored and counted; nothing raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.tracing.context import SpanContext, context_of, parse
from app.runtime.tracing.metrics import CONTEXTS_INVALID

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
GOOD = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def invalid() -> float:
    return float(CONTEXTS_INVALID._value.get())


def test_a_context_comes_back_as_it_went() -> None:
    before = invalid()
    found = parse(GOOD, b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert found == SpanContext(TRACE, SPAN, 1, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert found.traceparent == GOOD
    assert found.headers() == [("traceparent", GOOD), ("tracestate", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")]
    assert SpanContext(1, 2).headers() == [("traceparent", b"00-" + b"0" * 31 + b"1-" + b"0" * 15 + b"2-01")]
    assert invalid() == before


@pytest.mark.parametrize("digits", range(256))
def test_the_last_bit_of_the_flags_says_whether_it_is_sampled(digits: int) -> None:
    found = parse(GOOD[:-2] + b"%02x" % digits)
    assert found is not None
    assert found.sampled is bool(digits & 1)


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    found = parse(b"cc" + GOOD[2:] + b"-what-comes-then")
    assert found == SpanContext(TRACE, SPAN)
    assert found.traceparent == GOOD


BAD = [
    b"",
    b"00",
    GOOD[:-1],
    GOOD + b"0",
    GOOD + b"-00",  # version 00 has no more
    GOOD.upper(),
    GOOD.replace(b"-", b"_"),
    b"ff" + GOOD[2:],
    b"00-" + b"0" * 32 + GOOD[35:],
    GOOD[:36] + b"0" * 16 + GOOD[52:],
    GOOD[:10] + b"g" + GOOD[11:],
    GOOD[:10] + b"\n" + GOOD[11:],
    GOOD[:10] + b"\xff" + GOOD[11:],
    GOOD.replace(b"4bf", "\uff14bf".encode(), 1),  # a digit, and no ASCII one
    b"cc" + GOOD[2:] + b"-" + b"x" * 10_000,
    b"\0" * 55,
]


@pytest.mark.parametrize("header", BAD)
def test_what_is_malformed_is_ignored_and_counted(header: bytes) -> None:
    before = invalid()
    assert parse(header) is None
    assert invalid() == before + 1


@pytest.mark.parametrize("state", [b"a=" + b"x" * 10_000, b"a=b\r\nbaggage: x", b"\xff", "ä=b".encode(), b"a=\0"])
def test_a_bad_tracestate_is_left_out_alone(state: bytes) -> None:
    before = invalid()
    assert parse(GOOD, state) == SpanContext(TRACE, SPAN)
    assert invalid() == before + 1


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_no_bytes_raise(parent: bytes, state: bytes) -> None:
    found = parse(parent, state)
    assert found is None or parse(found.traceparent, found.tracestate.encode()) == found


def test_a_record_without_a_context_has_none() -> None:
    before = invalid()
    assert context_of([]) is None
    assert context_of([("kind", b"telemetry"), ("tracestate", b"a=b"), ("traceparent", None)]) is None
    assert invalid() == before


def test_the_first_of_repeated_headers_counts() -> None:
    other = GOOD[:-2] + b"00"
    headers = [("tracestate", b"a=1"), ("traceparent", GOOD), ("traceparent", other), ("tracestate", b"a=2")]
    assert context_of(headers) == SpanContext(TRACE, SPAN, 1, "a=1")
