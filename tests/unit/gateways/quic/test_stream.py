"""A stream: whole frames in order, the memory of large ones, answers in the order of their frames."""

from typing import Any

from app.gateways.quic.batch import RefusedBatch
from app.gateways.quic.reserve import Reserve
from app.gateways.quic.stream import SMALL, FrameStream
from app.protobuf.metrics_pb2 import BatchAck
from app.runtime.quic.contract import StreamCode
from app.runtime.quic.frames import FrameReader, framed

ROOM = 100_000
LARGE = framed(b"x" * 40_000)


class Written:
    """Of a connection, what a stream writes to it."""

    def __init__(self) -> None:
        self.data, self.ended, self.stopped = b"", False, 0
        self.reads = True

    def writable(self, _: int) -> bool:
        return self.reads

    def send_stream_data(self, _: int, data: bytes, end_stream: bool) -> None:
        self.data += data
        self.ended = self.ended or end_stream

    def stop_stream(self, _: int, code: int) -> None:
        self.stopped = code


def stream(quic: Any, reserve: Reserve | None = None, owner: str = "alice") -> FrameStream:
    return FrameStream(quic, 0, 50_000, reserve or Reserve(ROOM), owner)


def receive(one: FrameStream, data: bytes, *, end: bool = False, now: float = 0.0) -> None:
    one.received(data, end, now, lambda: None)


def test_large_frames_have_their_memory_from_their_length_until_they_are_taken() -> None:
    reserve = Reserve(ROOM)
    streams = [stream(Written(), reserve, owner) for owner in ("alice", "bob", "carol")]
    for one in streams:
        receive(one, LARGE[:10])
    assert [one.waits for one in streams] == [False, False, True]
    receive(streams[0], LARGE[10:] + LARGE[:10])
    assert streams[2].waits, "a frame that is whole and waits has its memory still"
    assert streams[0].waits, "and so does the next one, which has to wait for its own"
    assert streams[0].take() == LARGE[4:]
    assert not streams[2].waits
    assert streams[0].waits
    streams[1].release()
    assert not streams[0].waits
    for one in streams:
        one.release()
    assert reserve.claim("alice", ROOM, lambda: None).granted


def test_a_frame_that_is_cut_off_is_owed_a_refusal_before_the_stream_is_over() -> None:
    """Also when nobody knows yet whose the connection is, and so nobody may answer."""
    quic = Written()
    one = stream(quic)
    receive(one, framed(b"whole")[:-1], end=True)
    assert not one.over
    assert not one.send()
    fault = one.fault()
    assert fault
    one.refuse(fault)
    assert one.send()
    assert (one.over, quic.ended) == (True, True)
    assert BatchAck.FromString(quic.data[4:]).refusal.reason == "malformed"


def test_small_frames_ask_for_none() -> None:
    reserve = Reserve(1)
    one = stream(Written(), reserve)
    receive(one, framed(b"x" * SMALL)[:100])
    assert not one.waits


def test_answers_go_out_in_the_order_of_frames() -> None:
    quic = Written()
    one = stream(quic)
    receive(one, framed(b"1") + framed(b"2") + framed(b"3"), end=True)
    answers = []
    while one.frames:
        one.take()
        answers.append(one.owed())
    answers[1].body = b"second"
    assert not one.send()
    answers[0].body = b"first"
    assert one.send()
    assert quic.data == framed(b"first") + framed(b"second")
    assert not quic.ended
    answers[2].body = b"third"
    one.send()
    assert quic.ended
    assert one.over


def test_a_refusal_is_the_last_answer_and_what_is_behind_it_is_dropped() -> None:
    quic, reserve = Written(), Reserve(ROOM)
    one = stream(quic, reserve)
    receive(one, framed(b"1") + framed(b"2") + LARGE + LARGE[:10])
    one.take()
    first = one.owed()
    one.take()
    one.refuse(RefusedBatch("malformed", "why"), one.owed())
    assert quic.stopped == StreamCode.REFUSED
    assert not one.over
    receive(one, LARGE[10:] + framed(b"more"))
    assert not one.frames
    first.body = b"first"
    one.send()
    assert one.over
    assert quic.ended
    reader = FrameReader(1000)
    said = [BatchAck.FromString(body) for body in reader.feed(quic.data)[1:]]
    assert [answer.refusal.error for answer in said] == ["why"]
    assert reserve.claim("alice", ROOM, lambda: None).granted


def test_a_fault_comes_behind_all_good_frames() -> None:
    one = stream(Written())
    receive(one, framed(b"good") + b"\xff\xff\xff\xff")
    assert one.fault() is None
    one.take()
    found = one.fault()
    assert found is not None
    assert found.reason == "too_large"


def test_a_frame_is_late_by_the_time_that_is_its_senders() -> None:
    one = stream(Written())
    receive(one, framed(b"whole") + b"\0\0", now=5.0)
    assert not one.late(9.0, 10.0, held=False)
    assert not one.late(16.0, 10.0, held=True)
    assert not one.late(25.0, 10.0, held=False)
    receive(one, b"\0", now=25.0)
    assert one.late(26.5, 10.0, held=False), "a byte now and then makes no frame"
    receive(one, b"\x04good", now=26.0)
    assert not one.late(99.0, 10.0, held=False)


def test_a_reset_leaves_the_frames_that_were_whole() -> None:
    one = stream(Written())
    receive(one, framed(b"whole") + framed(b"half")[:5])
    one.reset()
    assert list(one.frames) == [b"whole"]
    assert one.fault() is None
    assert not one.over
    one.take()
    assert one.over


def test_nobody_who_reads_no_answers_is_sent_any() -> None:
    quic = Written()
    quic.reads = False
    one = stream(quic)
    receive(one, framed(b"1"), end=True)
    one.take()
    one.owed().body = b"first"
    one.send()
    assert quic.data == b""
    assert one.over
