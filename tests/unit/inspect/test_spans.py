"""The spans of Tempo's answers, in both of its forms, and their tree; whatever the answer holds."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.render.tap import Paint
from app.cli.render.trace import span_lines
from app.inspect.search import SoughtMessage
from app.inspect.spans import MOST, FoundSpan, duration, spans_of, tree
from app.inspect.tempo import query
from tests.unit.inspect.test_text import harmless

TRACE = "0af7651916cd43dd8448eb211c80319c"


def base64(text: str) -> str:
    return b64encode(bytes.fromhex(text)).decode()


def span(number: int, parent: int, name: str, start: int, took: int, **more: Any) -> dict[str, Any]:
    ids = {"traceId": TRACE, "spanId": f"{number:016x}", "parentSpanId": f"{parent:016x}" if parent else ""}
    return {
        **ids,
        "name": name,
        "startTimeUnixNano": str(start * 1000),
        "endTimeUnixNano": str((start + took) * 1000),
        **more,
    }


def batch(service: str, *spans: dict[str, Any]) -> dict[str, Any]:
    attributes = [{"key": "service.name", "value": {"stringValue": service}}]
    return {"resource": {"attributes": attributes}, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}


STORED = [{"key": "iot.outcome", "value": {"stringValue": "stored"}}]
BATCHES = [
    batch("bridge", span(2, 1, "bridge", 2_000, 400), span(1, 0, "mqtt_publish", 1_000, 2_500_000)),
    batch(
        "worker",
        span(3, 2, "worker_process", 3_000, 90, attributes=STORED),
        span(4, 3, "store_telemetry_batch", 3_500, 5, status={"code": "STATUS_CODE_ERROR", "message": "away"}),
        span(5, 2, "alert_publish", 4_000, 1_000),
    ),
]


def test_the_tree_of_a_trace() -> None:
    for answer in ({"batches": BATCHES}, {"trace": {"resourceSpans": BATCHES}}, {"resourceSpans": BATCHES}):
        assert list(span_lines(spans_of(json.dumps(answer).encode()), Paint(False))) == [
            f"spans       of trace {TRACE}",
            "  mqtt_publish 2.5 s +0 us bridge",
            "  └─ bridge 400 us +1 ms bridge",
            "     ├─ worker_process 90 us +2 ms worker stored",
            "     │  └─ store_telemetry_batch 5 us +2.5 ms worker ERROR away",
            "     └─ alert_publish 1 ms +3 ms worker",
        ]


def test_ids_in_base64_and_values_of_any_type() -> None:
    one = span(
        1,
        2,
        "a",
        1,
        1,
        attributes=[{"key": "n", "value": {"intValue": "7"}}, {"key": "b", "value": {"boolValue": True}}],
    )
    one |= {"traceId": base64(TRACE), "spanId": base64("00" * 7 + "01"), "parentSpanId": base64("00" * 7 + "02")}
    (found,) = spans_of(json.dumps({"batches": [batch("s", one)]}).encode())
    assert (found.trace_id, found.span_id, found.parent_id) == (TRACE, f"{1:016x}", f"{2:016x}")
    assert found.attributes == {"n": "7", "b": "True"}


@pytest.mark.parametrize("answer", [b"", b"[]", b"<html>", b'{"batches":[{"scopeSpans":5}]}', b"\xff", b"[" * 100_000])
def test_what_is_no_trace(answer: bytes) -> None:
    with pytest.raises(ValueError, match="this is no trace"):
        spans_of(answer)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_each_span_is_in_the_tree_once(pairs: list[tuple[int, int]]) -> None:
    spans = [FoundSpan("t", str(own), str(parent), f"n{n}", "s", n, 1) for n, (own, parent) in enumerate(pairs)]
    assert sorted(one.name for _, one in tree(spans)) == sorted(one.name for one in spans)


def test_a_chain_and_a_crowd() -> None:
    chain = [FoundSpan("t", str(n), str(n - 1), "n", "s", n, 1) for n in range(2 * MOST)]
    told = list(tree(chain))
    assert len(told) == MOST
    assert max(len(branch) for branch, _ in told) < 160
    assert list(span_lines(chain, Paint(False)))[-1] == f"  ... ({2 * MOST} spans)"


@given(st.text(), st.text())
def test_names_of_strangers_are_harmless(name: str, error: str) -> None:
    assert harmless("".join(span_lines([FoundSpan(name, "1", "", name, error, 0, 1, error)], Paint(False))))


def test_durations() -> None:
    assert [duration(us) for us in (0, 999, 1_500, 2_000_000)] == ["0 us", "999 us", "1.5 ms", "2 s"]


def test_a_query_quotes_what_strangers_named() -> None:
    assert query(SoughtMessage("u", 'a" || true', 7)) == (
        r'{ .user_id = "u" && .device_id = "a\" || true" && .sequence_id = 7 }'
    )
