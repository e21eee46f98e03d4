"""Frames out of pieces of a stream: whole whatever the pieces are, and refused before anything is set aside."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.quic.frames import MALFORMED, TOO_LARGE, FrameReader, framed
from tests.fuzzing import INPUTS, broken

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


@pytest.mark.fuzz
def test_broken_streams_in_any_pieces_are_frames_and_then_one_fault() -> None:
    """What comes before the fault is whole, and was written so; the same bytes give the same, however they are cut."""
    seeds = [b"".join(framed(bytes([n]) * size) for n in range(3)) for size in (1, 40, 255, 256, MOST)]
    tokens = [b"\0\0\0\0", b"\0\0\0\1", b"\0\0\3\xe8", b"\0\0\3\xe9", b"\xff\xff\xff\xff", b"\0"]
    chance, outcomes = random.Random(5), {"": 0, TOO_LARGE: 0, MALFORMED: 0}
    for stream in broken(seeds, tokens, INPUTS, seed=23):
        whole, cut = FrameReader(MOST), FrameReader(MOST)
        frames, pieces, at = whole.feed(stream), list[bytes](), 0
        while at < len(stream):
            size = chance.choice((1, 3, 5, 300, 1200))
            pieces += cut.feed(stream[at : at + size])
            at += size
            assert cut.pending < MOST + 4
        whole.finish()
        cut.finish()
        assert (pieces, cut.fault) == (frames, whole.fault)
        assert stream.startswith(b"".join(map(framed, frames)))
        outcomes[whole.fault.reason if whole.fault else ""] += 1
    assert min(outcomes.values()) > INPUTS / 20, outcomes


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
