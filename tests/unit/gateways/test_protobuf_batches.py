"""Bytes as a batch: whole, within its bounds, and without a field that would be lost."""

import tracemalloc

import pytest

from app.gateways import protobuf_batches
from app.gateways.protobuf_batches import MalformedBatch, item_count, parse
from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.ingest_pb2 import PushMetricsRequest
from app.protobuf.metrics_pb2 import Metric, MetricBatch

EVENT = Event(user_id="u", device_id="d", sequence_id=1, time_us=2, temperature=3.5, battery=4, extra_json=b"{}")
FIELD_99 = b"\x98\x06\x01"  # varint
BATCH = EventBatch(batch_id=7, events=[EVENT] * 3)


def item(event: bytes) -> bytes:
    """An item of a batch."""
    return b"\x12" + bytes([len(event)]) + event


def test_a_batch_is_what_was_sent() -> None:
    assert parse(EventBatch, BATCH.SerializeToString(), 3) == (BATCH, {})
    assert parse(MetricBatch, b"", 0) == (MetricBatch(), {})


@pytest.mark.parametrize(
    "data",
    [
        b"\x12",
        b"\x12\x05ab",
        b"\x12\xff\xff\xff\xff\x0f" + b"x" * 100,  # 4 GiB
        b"\x0f",
        b"\x12\x03\x0a\x01\xff",  # a user_id that is not UTF-8
        BATCH.SerializeToString()[:-1],
        b"POST / HTTP/1.1\r\n\r\n",
        b'{"user_id":"u"}',
    ],
)
def test_what_is_no_batch_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedBatch, match=rf"^{len(data)} bytes are no iot_stream.events.v1.EventBatch") as refused:
        parse(EventBatch, data, 100)
    assert refused.value.reason == "malformed"


def test_an_item_with_an_unknown_field_is_refused_alone() -> None:
    plain = EVENT.SerializeToString()
    batch, unknown = parse(EventBatch, item(plain) + item(plain + FIELD_99) + item(plain), 3)
    assert len(batch.events) == 3
    assert list(unknown) == [1]
    assert unknown[1].reason == "unknown_field"
    assert unknown[1].error.startswith("field 99 of iot_stream.events.v1.Event is none that this gateway knows")


def test_items_of_another_message_are_refused() -> None:
    metrics = MetricBatch(metrics=[Metric(node_id="n", sensor_id="s", value=1.5, time_us=5)] * 2).SerializeToString()
    assert parse(EventBatch, metrics, 2)[1].keys() == {0, 1}
    assert parse(MetricBatch, BATCH.SerializeToString(), 3)[1].keys() == {0, 1, 2}


def test_an_unknown_field_of_the_batch_is_a_refusal_of_all_of_it() -> None:
    for data in (BATCH.SerializeToString() + FIELD_99, FIELD_99 + BATCH.SerializeToString()):
        with pytest.raises(MalformedBatch, match=r"field 99 of iot_stream\.events\.v1\.EventBatch is none") as refused:
            parse(EventBatch, data, 3)
        assert refused.value.reason == "unknown_field"


def test_a_request_is_no_batch() -> None:
    request = PushMetricsRequest(batch=MetricBatch(batch_id=1), force_flush=True).SerializeToString()
    with pytest.raises(MalformedBatch):
        parse(MetricBatch, request, 10)


def test_numbers_of_more_bytes_than_they_need_are_no_unknown_fields() -> None:
    """protobuf allows them; some encoders leave room for a length that they do not know yet."""
    plain = EVENT.SerializeToString()
    padded = b"\x12" + bytes([len(plain) | 0x80, 0x80, 0x00]) + plain
    zero = item(plain + b"\x20\x00\x20\x02")  # time_us, twice: the last counts
    batch, unknown = parse(EventBatch, padded + zero, 2)
    assert (list(batch.events), unknown) == ([EVENT, EVENT], {})


@pytest.mark.parametrize("size", [0, 5, 20, 100])
def test_more_items_than_allowed_are_too_many(size: int) -> None:
    data = item(Event(user_id="x" * size).SerializeToString()) * 101
    with pytest.raises(MalformedBatch, match="more than 100 items") as refused:
        parse(EventBatch, data, 100)
    assert refused.value.reason == "too_many_items"
    assert len(parse(EventBatch, data, 101)[0].events) == 101


def test_items_are_counted_before_they_take_room() -> None:
    """An empty item is two bytes, and fifty once it is parsed."""
    data = b"\x12\x00" * 500_000
    tracemalloc.start()
    with pytest.raises(MalformedBatch, match="more than 1000 items"):
        parse(EventBatch, data, 1000)
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()
    assert item_count(data, 10) == 11


def test_counting_passes_over_whatever_else_there_is() -> None:
    other = b"\x08\x96\x01" + b"\x19" + b"12345678" + b"\x25" + b"1234" + b"\x32\x02\x12\x00"
    assert item_count((other + b"\x12\x00") * 3, 10) == 3
    assert item_count(b"\x12\x00\x0b\x12\x00", 10) == 1, "a group ends the counting"
    for cut in (b"\x12", b"\x12\xff", b"\xff" * 30, b"\x12\xff\xff\xff\xff\x7f\x12\x00"):
        assert item_count(cut, 10) <= 1


def test_the_look_before_parsing_is_spared_where_nothing_can_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf_batches, "item_count", None)
    assert len(parse(EventBatch, BATCH.SerializeToString(), 1000)[0].events) == 3
