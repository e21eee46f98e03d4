"""A request's two fields read by hand: what protobuf reads, for every request there is, and never more than it."""

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st

from app.gateways.grpc.push_request import PushRequest, push_request
from app.protobuf.ingest_pb2 import PushEventsRequest, PushMetricsRequest
from app.protobuf.metrics_pb2 import Metric, MetricBatch
from tests.fuzzing import INPUTS, broken

batches = st.builds(
    MetricBatch,
    batch_id=st.integers(0, 2**64 - 1),
    metrics=st.lists(st.builds(Metric, node_id=st.text(max_size=5), value=st.floats(allow_nan=False)), max_size=4),
)
requests = st.builds(PushMetricsRequest, batch=batches, force_flush=st.booleans())


@given(st.lists(requests, min_size=1, max_size=3))
def test_it_reads_what_protobuf_reads_also_of_requests_after_one_another(made: list[PushMetricsRequest]) -> None:
    data = b"".join(request.SerializeToString() for request in made)
    found = push_request(data)
    assert isinstance(found, PushRequest)
    merged = PushMetricsRequest.FromString(data)
    assert found.force_flush == merged.force_flush
    assert MetricBatch.FromString(found.batch) == merged.batch


SEEDS = [
    PushMetricsRequest().SerializeToString(),
    PushMetricsRequest(force_flush=True).SerializeToString(),
    PushMetricsRequest(
        batch=MetricBatch(batch_id=7, metrics=[Metric(node_id="n", sensor_id="s", value=1.5, time_us=1 << 50)]),
        force_flush=True,
    ).SerializeToString(),
]
TOKENS = [
    *(b"\x0a", b"\x10", b"\x08", b"\x12", b"\x1a", b"\x0d", b"\x09", b"\x0b", b"\x0c", b"\x00", b"\x01", b"\xff"),
    *(b"\x0a\x00", b"\x10\x01", b"\x10\x00", b"\x80" * 9 + b"\x01", b"\x80" * 100, b"\xff" * 9 + b"\x01"),
    b"\x0a\xff\xff\xff\xff\x0f",
]


@pytest.mark.fuzz
def test_whatever_bytes_come_it_reads_what_protobuf_reads_or_says_what_is_wrong() -> None:
    read = wrong = 0
    for data in broken(SEEDS, TOKENS, INPUTS, 13):
        found = push_request(data)
        if isinstance(found, str):
            wrong += 1
            assert found.isprintable()
            continue
        assert len(found.batch) <= len(data)
        try:
            parsed = PushMetricsRequest.FromString(data)
        except DecodeError:
            continue  # the batch within is none: who parses it says so
        read += 1
        assert parsed.force_flush == found.force_flush
        assert not len(UnknownFieldSet(parsed)), "a field that nobody knows is refused"
        assert MetricBatch.FromString(found.batch) == parsed.batch
    assert read > INPUTS // 20
    assert wrong > INPUTS // 20


@pytest.mark.parametrize("kind", [PushMetricsRequest, PushEventsRequest])
def test_both_requests_have_the_same_two_fields(kind: type[PushMetricsRequest] | type[PushEventsRequest]) -> None:
    fields = {field.number: (field.name, field.type) for field in kind.DESCRIPTOR.fields}
    assert {number: name for number, (name, _) in fields.items()} == {1: "batch", 2: "force_flush"}
    assert push_request(kind(force_flush=True).SerializeToString()) == PushRequest(b"", True)
    assert push_request(b"") == PushRequest(b"", False)
