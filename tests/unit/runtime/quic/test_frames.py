"""Frames out of pieces of a stream: whole whatever the pieces are, and refused before anything is set aside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.quic.frames import MALFORMED, TOO_LARGE, FrameReader, framed

MOST = 1000


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_frames_come_out_as_they_were_written_however_they_are_cut(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(framed, bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader, found = FrameReader(MOST), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[begin:end])
    reader.finish()
    assert found == bodies
    assert (reader.fault, reader.pending, reader.declared) == (None, 0, 0)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_frames_or_a_fault_and_hold_no_more_than_came(pieces: list[bytes]) -> None:
    reader, came, held = FrameReader(MOST), 0, 0
    for piece in pieces:
        came += len(piece)
        frames = reader.feed(piece)
        assert all(0 < len(frame) <= MOST for frame in frames)
        held = reader.pending
        assert held <= min(came, MOST + 3 + len(piece))
        if reader.fault:
            assert held == 0
            assert reader.feed(framed(b"more")) == []
    reader.finish()
    assert reader.fault or not held


@pytest.mark.parametrize(
    ("stream", "reason", "words"),
    [
        (b"\xff\xff\xff\xff", TOO_LARGE, "a frame of 4294967295 bytes, 1000 at most"),
        (b"\x00\x00\x03\xe9", TOO_LARGE, "a frame of 1001 bytes, 1000 at most"),
        (b"\x00\x00\x00\x00more", MALFORMED, "a frame of no bytes: a batch has at least one"),
    ],
)
def test_a_wrong_length_is_refused_by_its_four_bytes_alone(stream: bytes, reason: str, words: str) -> None:
    reader = FrameReader(MOST)
    assert reader.feed(framed(b"good") + stream[:3]) == [b"good"]
    assert reader.fault is None
    assert reader.feed(stream[3:]) == []
    assert reader.fault == (reason, words)
    assert reader.pending == 0


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (framed(b"cut off")[:-2], "5 bytes of 7 came"),
        (b"\x00\x00", "its length is cut off"),
    ],
)
def test_a_stream_that_ends_within_a_frame_says_so(stream: bytes, words: str) -> None:
    reader = FrameReader(MOST)
    reader.feed(framed(b"good") + stream)
    assert reader.fault is None
    reader.finish()
    assert reader.fault is not None
    assert reader.fault.reason == MALFORMED
    assert words in reader.fault.error


def test_the_length_of_what_is_not_whole_is_known() -> None:
    reader = FrameReader(MOST)
    reader.feed(framed(b"x" * 900)[:100])
    assert (reader.declared, reader.pending) == (900, 100)
    assert reader.feed(framed(b"x" * 900)[100:]) == [b"x" * 900]
    assert reader.declared == 0
