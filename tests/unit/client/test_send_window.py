"""Batches of a stream: in order, whatever fails, and each until its ack."""

import random

import pytest

from app.client.pace import Pace
from app.client.send_window import SendWindow
from app.client.sent_batch import LATER, SentBatch, batches
from app.errors import WireError
from app.protobuf.events_pb2 import Event
from app.protobuf.metrics_pb2 import BatchAck, RejectedItem


def window(count: int, items: int = 1) -> SendWindow:
    made = SendWindow()
    for batch in batches([Event(sequence_id=number) for number in range(count * items)], Pace(batch_items=items)):
        made.put(batch)
    return made


def sent(made: SendWindow, count: int, now: float = 0.0) -> list[int]:
    found = [made.next(now) for _ in range(count)]
    return [batch.number for batch in found if batch]


def accept(batch: SentBatch | int, items: int = 1) -> BatchAck:
    return BatchAck(batch_id=batch if isinstance(batch, int) else batch.number, accepted=items)


def test_batches_go_in_their_order() -> None:
    made = window(3)
    assert (len(made), made.waiting) == (3, True)
    assert sent(made, 4) == [1, 2, 3]
    assert (len(made), made.waiting) == (3, False)
    assert [made.settle(accept(number)) is not None for number in (1, 2, 3)] == [True] * 3
    assert len(made) == 0


def test_what_has_no_ack_goes_again_before_what_follows() -> None:
    made = window(5)
    assert sent(made, 3) == [1, 2, 3]
    made.settle(accept(2))
    assert [item.sequence_id for item in made.left()] == [0, 2, 3, 4]
    made.again()
    assert sent(made, 9) == [1, 3, 4, 5]


def test_what_is_put_off_goes_before_what_follows() -> None:
    made = window(4, items=2)
    assert sent(made, 3) == [1, 2, 3]
    for number in (1, 2):
        later = [RejectedItem(index=1, reason=LATER)]
        assert made.settle(BatchAck(batch_id=number, accepted=1, rejected=later)) is None
    assert [item.sequence_id for item in made.left()] == [1, 3, 4, 5, 6, 7]
    assert sent(made, 9) == [1, 2, 4]


def test_an_ack_of_nothing_that_was_sent_is_refused() -> None:
    made = window(2)
    sent(made, 1)
    for number in (0, 2, 7):
        with pytest.raises(WireError, match=f"an ack of batch {number}, which was not sent"):
            made.settle(accept(number))
    with pytest.raises(WireError):
        made.settle(accept(1, items=5))
    made.again()
    assert sent(made, 9) == [1, 2], "a wrong ack settles nothing"


def test_the_oldest_without_an_ack_is_known() -> None:
    made = window(3)
    assert made.sent_since() is None
    sent(made, 1, 5.0)
    sent(made, 1, 7.0)
    assert made.sent_since() == 5.0
    made.settle(accept(1))
    assert made.sent_since() == 7.0
    made.again()
    assert made.sent_since() is None


def test_at_random_every_batch_is_settled_and_the_first_time_in_order() -> None:
    for seed in range(200):
        chance, made = random.Random(seed), window(30)
        seen: list[int] = []
        open_now: list[int] = []
        settled: set[int] = set()
        while len(made):
            match chance.randrange(6):
                case 0:
                    made.again()
                    open_now.clear()
                case 1 | 2 if open_now:
                    number = open_now.pop(0)
                    assert made.settle(accept(number)) is not None
                    settled.add(number)
                case _:
                    fresh = sent(made, 1)
                    open_now += fresh
                    seen += [number for number in fresh if number not in seen]
        assert seen == sorted(seen)
        assert settled == set(range(1, 31))
