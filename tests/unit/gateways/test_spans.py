"""The span `bridge`: whose it is, what the record carries afterwards, and how many there are for senders that ask."""

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from app.core.ingress.trace_budget import TraceBudget
from app.gateways.mqtt.packets import Publish
from app.gateways.mqtt.records import to_record
from app.gateways.record import IngestRecord, may_be_there
from app.gateways.spans import BridgeSpans
from app.runtime.tracing.context import context_of
from app.runtime.tracing.metrics import ALWAYS_LIMITED, INCOMING_LIMITED
from tests.spans import Recorded

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, NOT_SAMPLED = (f"00-{TRACE}-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))
TOPIC = "users/u1/devices/d1/telemetry"


class Subject:
    """Spans of a bridge, and what became of them."""

    def __init__(self, ratio: float = 0.0, per_second: int = 1_000_000) -> None:
        self.recorded = Recorded(ratio, always=2)
        self.spans = BridgeSpans(self.recorded.tracing, "iot-stream", TraceBudget(per_second))

    def bridge(self, *records: IngestRecord) -> list[ReadableSpan]:
        """Have Kafka take all of them."""
        self.spans.end(self.spans.begin(records), (), ())
        return self.recorded.spans()


def record(payload: bytes = b'{"sequence_id":7}', topic: str = TOPIC, at: int = 1_000, **named: str) -> IngestRecord:
    """A record as it arrives, with user properties."""
    return to_record(Publish(topic, payload, 1, list(named.items())), at)


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def test_a_sampled_message_gets_a_child_of_its_context_and_carries_that_on() -> None:
    subject, message = Subject(), record(traceparent=SAMPLED, tracestate="a=b")
    before = (message.key, message.value, message.headers[:-1])
    (span,) = subject.bridge(message)
    assert (span.name, span.kind, span.start_time) == ("bridge", SpanKind.PRODUCER, 1_000_000_000)
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}-{span.parent.span_id:016x}" == SAMPLED[3:-3]
    assert message.headers[-1] == ("traceparent", f"00-{TRACE}-{span.context.span_id:016x}-01".encode())
    assert (message.key, message.value, message.headers[:-1]) == before
    assert dict(message.headers)["tracestate"] == b"a=b"
    assert [name for name, _ in message.headers].count("traceparent") == 1
    found = attributes(span)
    assert (found["user_id"], found["device_id"], found["sequence_id"]) == ("u1", "d1", 7)
    assert (found["messaging.system"], found["messaging.destination.name"]) == ("kafka", "iot-stream")
    assert span.status.status_code is StatusCode.UNSET


def test_one_that_is_not_sampled_is_left_as_it_is_whatever_our_own_sampling() -> None:
    subject, message = Subject(ratio=1.0), record(traceparent=NOT_SAMPLED)
    before = list(message.headers)
    assert subject.bridge(message) == []
    assert message.headers == before


def test_our_own_sampling_begins_a_trace_and_writes_into_those_alone() -> None:
    subject, messages = Subject(ratio=0.01), [record() for _ in range(10_000)]
    spans = subject.bridge(*messages)
    carrying = [message for message in messages if message.headers[-1][0] == "traceparent"]
    assert 50 < len(carrying) == len(spans) < 200
    assert all(span.parent is None for span in spans)
    contexts = {context_of(message.headers) for message in carrying}
    assert {(one.trace_id, one.span_id, one.sampled) for one in contexts if one} == {
        (span.context.trace_id, span.context.span_id, True) for span in spans if span.context
    }


def test_without_sampling_nothing_is_begun() -> None:
    messages = [record() for _ in range(1_000)]
    assert Subject(ratio=0.0).bridge(*messages) == []
    assert all(message.headers[-1][0] == "mqtt_id" for message in messages)


def test_one_account_that_samples_everything_is_held_to_half_the_budget() -> None:
    subject, before = Subject(per_second=20), INCOMING_LIMITED._value.get()
    flood = [record(traceparent=SAMPLED) for _ in range(500)]
    other = record(traceparent=SAMPLED, topic="users/u2/devices/d/telemetry")
    spans = subject.bridge(*flood, other)
    users = [attributes(span)["user_id"] for span in spans]
    assert users.count("u2") == 1
    assert 10 <= users.count("u1") <= 20, "ten a second; the second may have changed on the way"
    assert INCOMING_LIMITED._value.get() - before == 501 - len(spans)
    contexts = [context_of(message.headers) for message in flood]
    assert {context.trace_id for context in contexts if context} == {int(TRACE, 16)}
    assert sum(context is not None and not context.sampled for context in contexts) == 501 - len(spans)


def test_what_kafka_refuses_has_a_span_sampled_or_not() -> None:
    subject = Subject()
    sampled, plain, well = record(traceparent=SAMPLED), record(), record(traceparent=SAMPLED)
    spans = subject.spans.begin([sampled, plain, well])
    subject.spans.end(spans, (), [sampled, plain])
    found = subject.recorded.spans()
    assert [attributes(span).get("iot.reason") for span in found] == ["payload_too_large"] * 2 + [None]
    assert [span.status.status_code for span in found] == [StatusCode.ERROR] * 2 + [StatusCode.UNSET]
    assert attributes(found[0])["error.type"] == "payload_too_large"


def test_what_is_over_a_limit_has_so_many_spans_a_second() -> None:
    subject, before = Subject(), ALWAYS_LIMITED._value.get()
    messages = [record(traceparent=NOT_SAMPLED) for _ in range(50)]
    for message in messages:
        message.over = "5 a second"
    subject.spans.end({}, messages, ())
    found = subject.recorded.spans()
    assert len(found) == 2, "there may be two a second"
    assert ALWAYS_LIMITED._value.get() - before == 48
    assert attributes(found[0])["iot.reason"] == "rate_limited"
    assert found[0].status.description == "5 a second"
    assert found[0].parent is not None
    assert f"{found[0].parent.trace_id:032x}" == TRACE


def test_a_bridge_that_stops_before_the_ack_says_so() -> None:
    subject, message, limited = Subject(), record(traceparent=SAMPLED), record()
    subject.spans.end(subject.spans.begin([message]), [limited], None)
    (span,) = subject.recorded.spans()
    assert attributes(span)["error.type"] == "interrupted"


def test_a_record_that_kafka_may_have_still_ends_in_its_context() -> None:
    message = record(traceparent=SAMPLED)
    may_be_there([message])
    assert message.headers[-1][0] == "traceparent"
    assert dict(message.headers)["mqtt_dup"] == b"1"


@pytest.mark.parametrize(
    ("topic", "payload", "ids"),
    [
        ("iot/n1/s1/telemetry", b'{"value":1}', {"user_id": "n1", "device_id": "s1"}),
        ("iot/n1/status", b"online", {"user_id": "n1"}),
        ("users/u1/config", b"[]", {"user_id": "u1"}),
        ("nobody/knows", b'{"sequence_id":7}', {}),
        (TOPIC, b'{"sequence_id":"7"}', {"user_id": "u1", "device_id": "d1"}),
        (TOPIC, b'{"sequence_id":9223372036854775808}', {"user_id": "u1", "device_id": "d1"}),
        (TOPIC, b"\xff\x00", {"user_id": "u1", "device_id": "d1"}),
        (TOPIC, b"[" * 100_000, {"user_id": "u1", "device_id": "d1"}),
    ],
    ids=["sensor", "status", "config", "unknown", "text", "2^63", "binary", "nested"],
)
def test_the_ids_are_those_of_the_topic_and_whatever_the_payload_is(
    topic: str, payload: bytes, ids: dict[str, object]
) -> None:
    (span,) = Subject().bridge(record(payload, topic, traceparent=SAMPLED))
    named = {
        name: attributes(span)[name] for name in ("user_id", "device_id", "sequence_id") if name in attributes(span)
    }
    assert named == ids
