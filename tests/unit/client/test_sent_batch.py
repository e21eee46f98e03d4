"""Items as batches, and what an ack says of each."""

import time

import pytest

from app.client.pace import Pace
from app.client.sent_batch import LATER, Batcher, Item, batches, joined
from app.errors import WireError
from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.metrics_pb2 import BatchAck, Metric, RejectedItem


def events(count: int) -> list[Item]:
    return [Event(user_id="u", device_id="d", sequence_id=number, time_us=1) for number in range(count)]


def ack(batch_id: int, accepted: int, *rejected: tuple[int, str]) -> BatchAck:
    items = [RejectedItem(index=index, reason=reason, error="no") for index, reason in rejected]
    return BatchAck(batch_id=batch_id, accepted=accepted, rejected=items)


def test_a_batch_has_so_many_items() -> None:
    made = list(batches(events(25), Pace(batch_items=10)))
    assert [len(batch.items) for batch in made] == [10, 10, 5]
    assert [batch.number for batch in made] == [1, 2, 3]
    assert [batch.request.batch_id for batch in made] == [1, 2, 3]
    assert [item.sequence_id for batch in made for item in batch.items] == list(range(25))
    assert list(batches([], Pace())) == []


def test_a_batch_has_so_many_bytes() -> None:
    made = list(batches(events(1000), Pace(batch_bytes=500)))
    assert all(batch.request.ByteSize() <= 500 for batch in made)
    assert all(batch.request.ByteSize() > 300 for batch in made[:-1])
    huge = Event(user_id="u", device_id="d", extra_json=b"x" * 1000)
    assert [len(batch.items) for batch in batches([*events(1), huge, *events(1)], Pace(batch_bytes=500))] == [1, 1, 1]


def test_items_of_two_kinds_are_not_mixed() -> None:
    with pytest.raises(TypeError, match="a Metric: a stream is of events or of metrics"):
        list(batches([*events(1), Metric(node_id="n")], Pace()))
    with pytest.raises(TypeError, match="a str"):
        Batcher(Pace()).add("user_id")  # type: ignore[arg-type]


def test_a_metric_without_a_time_gets_one_once() -> None:
    """The gateway would give it another each time that it is sent, and it would be stored as often."""
    plain, timed = Metric(node_id="n", sensor_id="s", value=1), Metric(node_id="n", sensor_id="s", value=1, time_us=5)
    (batch,) = batches([plain, timed], Pace())
    first, second = batch.items
    assert abs(first.time_us / 1e6 - time.time()) < 10
    assert (second.time_us, plain.time_us) == (5, 0), "and the caller's items are left alone"
    before = batch.request.SerializeToString()
    assert batch.settle(ack(1, 1, (0, LATER))) is None
    assert batch.items[0].time_us == first.time_us
    assert batch.request.SerializeToString() in before


def test_an_ack_says_what_became_of_each_item() -> None:
    first, second = batches(events(7), Pace(batch_items=5))
    acked = first.settle(ack(1, 4, (2, "bad_id")))
    assert acked is not None
    assert (acked.first, acked.accepted, len(acked.items)) == (0, 4, 5)
    assert [(one.index, one.reason, one.item.sequence_id) for one in acked.refused] == [(2, "bad_id", 2)]
    other = second.settle(ack(2, 0, (1, "bad_id"), (0, "not_allowed")))
    assert other is not None
    assert [(one.index, one.reason) for one in other.refused] == [(5, "not_allowed"), (6, "bad_id")]
    both = joined([acked, other])
    assert (both.accepted, [one.index for one in both.refused], len(both.items)) == (4, [2, 5, 6], 7)


def test_what_is_put_off_is_sent_again_alone() -> None:
    (batch,) = batches(events(5), Pace())
    assert batch.settle(ack(1, 2, (1, LATER), (2, "bad_id"), (4, LATER))) is None
    assert isinstance(batch.request, EventBatch)
    assert [item.sequence_id for item in batch.request.events] == [item.sequence_id for item in batch.left] == [1, 4]
    assert batch.request.batch_id == 1
    assert batch.settle(ack(1, 0, (0, "bad_id"), (1, LATER))) is None
    acked = batch.settle(ack(1, 1))
    assert acked is not None
    assert (acked.accepted, [(one.index, one.item.sequence_id) for one in acked.refused]) == (3, [(1, 1), (2, 2)])
    assert len(acked.items) == 5


@pytest.mark.parametrize(
    "wrong", [ack(1, 2), ack(1, 4), ack(1, 2, (3, "bad_id")), ack(1, 3, (0, LATER)), ack(1, 1, (0, "a"), (0, "a"))]
)
def test_an_ack_that_does_not_account_for_each_item_is_none(wrong: BatchAck) -> None:
    (batch,) = batches(events(3), Pace())
    with pytest.raises(WireError, match="an ack of"):
        batch.settle(wrong)
