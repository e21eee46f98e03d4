"""What may be committed: a prefix of what is ours, done since the last seek, with the signature of the log."""

from faust.types import TP

from app.stream.batches import BatchLimits, BatchMessage
from app.stream.in_flight import InFlight
from app.stream.prefix_commit import PrefixCommit
from app.stream.rebalance.start_position import Position

ZERO, ONE, OTHER = TP("readings", 0), TP("readings", 1), TP("a-changelog", 0)


def batch(tp: TP, first: int, following: int) -> BatchMessage:
    made = BatchMessage(tp.topic, tp.partition, following - 1, 0.0, 0, [], b"", [], None, tp=tp, generation_id=1)
    made.first_offset, made.next_offset, made.weight, made.epoch = first, following, 1, 0
    return made


def test_an_offset_moves_once_every_batch_before_it_is_acked() -> None:
    flight = InFlight(BatchLimits("readings"))
    commits = PrefixCommit("readings", flight)
    flight.place(ZERO, Position(0, None))
    batches = [batch(ZERO, first, first + 5) for first in (0, 5, 10)]
    for one in batches:
        flight.hand_over(one)
    for number, offset in ((1, None), (0, 10), (2, 15)):
        batches[number].acked = True
        flight.acked(ZERO)
        assert commits.offset(ZERO) == offset
    assert commits.pending() == commits.pending({"readings"}) == commits.pending({ZERO}) == [ZERO]
    assert commits.pending({ONE}) == []


def test_only_what_is_ours_and_still_done_is_signed() -> None:
    flight = InFlight(BatchLimits("readings"))
    commits = PrefixCommit("readings", flight)
    flight.done[ZERO], flight.done[ONE] = 5, 7
    signed = commits.signed({ZERO: 5, ONE: 7, OTHER: 3}, {ZERO, OTHER}, "log {}".format)
    assert {tp: (one.offset, one.metadata) for tp, one in signed.items()} == {ZERO: (5, "log 0"), OTHER: (3, "log 0")}
    flight.begin_anew()  # a seek: what was done before may be of another log
    assert commits.signed({ZERO: 5}, {ZERO}, "log {}".format) == {}


def test_other_topics_are_committed_by_faust() -> None:
    commits = PrefixCommit("readings", InFlight(BatchLimits("readings")))
    assert (commits.covers(ZERO), commits.covers(OTHER)) == (True, False)
