"""Which records of a batch are traced, whoever made their headers."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.ingress.trace_budget import TraceBudget
from app.ops.spans.sampled import Sampled, sampled_records
from app.runtime.tracing.metrics import INCOMING_LIMITED
from app.runtime.tracing.sampling import HeadSampling
from tests.spans import NOT_SAMPLED, REMOTE, SAMPLED
from tests.unit.core.processing.test_processor import Subject
from tests.unit.records import NOW, Message

BRIDGE = [("mqtt_topic", b"users/u1/devices/d1/telemetry"), ("kind", b"telemetry"), ("ingest_ms", b"1795230000000")]
QOS1 = [*BRIDGE, ("mqtt_id", b"7")]
CONTEXT = [("traceparent", SAMPLED)]
NONE = HeadSampling(0.0)


def sampled(messages: list[Message], head: HeadSampling = NONE, per_second: int = 1_000_000) -> Sampled:
    """Of messages as they follow each other in a partition, by what the processor notes of them."""
    placed = [msgspec.structs.replace(message, offset=offset) for offset, message in enumerate(messages, 42)]
    return sampled_records(placed, annotated(placed), head, TraceBudget(per_second))


def annotated(messages: list[Message]) -> list[Message]:
    return Subject()(*messages, now=NOW.timestamp()).annotated


def offsets(messages: list[Message], head: HeadSampling = NONE) -> list[int]:
    return [int(record.offset) for record, _ in sampled(messages, head)]


@pytest.mark.parametrize(
    "headers",
    [
        CONTEXT,
        [*BRIDGE, *CONTEXT],
        [*QOS1, *CONTEXT],
        [*QOS1, *CONTEXT, ("tracestate", b"a=b")],
        [*QOS1, *CONTEXT, ("mqtt_dup", b"1")],  # a bridge notes it after a write that failed
        [*CONTEXT, ("tracestate", b"a=b"), ("baggage", b"user=me\r\nx: y")],
        [*CONTEXT, ("of-a-producer", b"x")],
        [*BRIDGE, ("gateway", b"http"), *CONTEXT],
        [BRIDGE[2], BRIDGE[1], BRIDGE[0], *CONTEXT, ("tracestate", b"a=b")],  # Vector's are in the order of their names
        [("mqtt_topic", b"users/u1/config"), *BRIDGE[1:], *CONTEXT],
        [("mqtt_topic", b"nowhere"), *BRIDGE[1:], *CONTEXT],
        [*BRIDGE, ("traceparent", SAMPLED[:-2] + b"11")],
    ],
)
def test_what_its_sender_has_sampled(headers: list[tuple[str, bytes]]) -> None:
    ((record, context),) = sampled([Message(headers=[]), Message(headers=headers)])
    assert record.offset == 43
    assert context is not None
    assert context[:2] == REMOTE[:2]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        BRIDGE,
        QOS1,
        [*QOS1, ("retained", b"1")],
        [*QOS1, ("traceparent", NOT_SAMPLED)],
        [*QOS1, ("traceparent", NOT_SAMPLED), ("tracestate", b"a=b")],
        [*QOS1, ("traceparent", b"00-zz-01")],
        [*QOS1, ("traceparent", b"x" * 10_000)],
        [*QOS1, ("traceparent", b"")],
        [*QOS1, ("traceparent", SAMPLED[:-2] + b"10")],
        [*CONTEXT, *QOS1, ("traceparent", NOT_SAMPLED)],  # the last says so plainly: nothing else is looked at
        [("other", b"x")],
    ],
)
def test_what_it_has_not(headers: list[tuple[str, bytes]]) -> None:
    assert offsets([Message(headers=headers)]) == []


@pytest.mark.parametrize(
    "headers", [[], BRIDGE, QOS1, [*BRIDGE, ("gateway", b"grpc")], [BRIDGE[2], BRIDGE[1], BRIDGE[0]]]
)
def test_nothing_is_noted_of_what_a_gateway_always_gives(headers: list[tuple[str, bytes]]) -> None:
    """Else there is a look at each record of a batch, which costs a worker 2 % of its time."""
    assert annotated([Message(headers=headers)] * 3) == []


NAMES = ["mqtt_topic", "kind", "ingest_ms", "mqtt_id", "mqtt_dup", "gateway", "retained", "traceparent", "x"]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([b"1", b"iot/n/s/telemetry", None])), max_size=6))
def test_a_context_at_the_end_is_never_missed(headers: list[Any]) -> None:
    ((_, context),) = sampled([Message(headers=[*(one for one in headers if one[0] != "traceparent"), *CONTEXT])])
    assert context is not None
    assert context[:2] == REMOTE[:2]
    for last in (*CONTEXT, ("tracestate", b"a=b"), ("x", b"")):
        assert len(annotated([Message(headers=[*headers, last])])) == 1


def test_our_share_is_of_what_nobody_has_decided_on() -> None:
    every = HeadSampling(1.0)
    messages = [
        Message(headers=headers) for headers in ([], BRIDGE, QOS1, [*BRIDGE, ("traceparent", NOT_SAMPLED)], CONTEXT)
    ]
    assert offsets(messages, every) == [42, 43, 46]
    assert [context is None for _, context in sampled(messages, every)] == [True, True, False]


def test_the_share_runs_on_from_batch_to_batch() -> None:
    head = HeadSampling(0.01)
    found = sum(len(sampled([Message(headers=[])] * 500, head)) for _ in range(200))
    assert 850 < found < 1150


def test_a_sampler_that_asks_no_parent_decides_on_each() -> None:
    messages = [Message(headers=[("traceparent", NOT_SAMPLED)]), Message(headers=CONTEXT)]
    assert len(offsets(messages, HeadSampling(1.0, parent_based=False))) == 2
    assert offsets(messages, HeadSampling(0.0, parent_based=False)) == []


def test_who_samples_everything_has_half_the_budget() -> None:
    """Records that no bridge of ours has brought, and so none has held to it."""
    before = INCOMING_LIMITED._value.get()
    flood = [Message(key=b"loud/d", headers=CONTEXT)] * 500
    found = sampled([*flood, Message(key=b"quiet/d", headers=CONTEXT)], per_second=20)
    assert 10 <= [record.key for record, _ in found].count(b"loud/d") <= 20, "the second may have changed on the way"
    assert [record.key for record, _ in found].count(b"quiet/d") == 1
    assert INCOMING_LIMITED._value.get() - before == 501 - len(found)
