"""Which records of a batch are traced, whoever made their headers."""

import msgspec
import pytest

from app.core.ingress.trace_budget import TraceBudget
from app.ops.spans.sampled import Sampled, sampled_records
from app.runtime.tracing.metrics import INCOMING_LIMITED
from app.runtime.tracing.sampling import HeadSampling
from tests.spans import NOT_SAMPLED, REMOTE, SAMPLED
from tests.unit.records import Message

BRIDGE = [("mqtt_topic", b"users/u1/devices/d1/telemetry"), ("kind", b"telemetry"), ("ingest_ms", b"1795230000000")]
QOS1 = [*BRIDGE, ("mqtt_id", b"7")]
CONTEXT = [("traceparent", SAMPLED)]
NONE = HeadSampling(0.0)


def sampled(messages: list[Message], head: HeadSampling = NONE, per_second: int = 1_000_000) -> Sampled:
    """Of messages as they follow each other in a partition."""
    placed = [msgspec.structs.replace(message, offset=offset) for offset, message in enumerate(messages, 42)]
    return sampled_records(placed, head, TraceBudget(per_second))


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
        [("other", b"x")],
    ],
)
def test_what_it_has_not(headers: list[tuple[str, bytes]]) -> None:
    assert offsets([Message(headers=headers)]) == []


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
