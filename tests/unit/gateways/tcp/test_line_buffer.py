"""Lines come out as they went in, however they are cut; what is held in memory is bounded."""

import tracemalloc
from time import process_time

from hypothesis import given
from hypothesis import strategies as st

from app.gateways.tcp.line_buffer import LineBuffer

pieces = st.lists(st.binary(max_size=20) | st.sampled_from([b"\n", b"\n\n", b"ab\ncd\n", b"x" * 40]), max_size=20)


@given(pieces=pieces, most=st.integers(1, 5))
def test_lines_are_those_of_all_bytes_together(pieces: list[bytes], most: int) -> None:
    buffer, lines = LineBuffer(100_000), list[bytes]()
    for piece in pieces:
        buffer.feed(piece)
        while buffer.more:
            lines += (some := buffer.take(most))
            assert buffer.taken == len(b"\n".join(some)) + 1
    *whole, rest = b"".join(pieces).split(b"\n")
    assert lines == whole
    assert buffer.begun == len(rest)


@given(pieces=pieces, most=st.integers(1, 5))
def test_long_lines_are_cut_behind_the_bound(pieces: list[bytes], most: int) -> None:
    buffer, lines = LineBuffer(7), list[bytes]()
    for piece in pieces:
        buffer.feed(piece)
        while buffer.more:
            lines += buffer.take(most)
        assert buffer.begun <= 8
    *whole, _ = b"".join(pieces).split(b"\n")
    assert lines == [line[:8] for line in whole]


@given(pieces=pieces)
def test_a_line_that_is_put_back_comes_again(pieces: list[bytes]) -> None:
    buffer, lines = LineBuffer(100_000), list[bytes]()
    for piece in pieces:
        buffer.feed(piece)
        while buffer.more:
            (line,) = buffer.take(1)
            buffer.put_back(line)
            lines += buffer.take(1)
    *whole, rest = b"".join(pieces).split(b"\n")
    assert lines == whole
    assert buffer.begun == len(rest)


def test_nothing_is_left_once_it_is_cleared() -> None:
    buffer = LineBuffer(100)
    buffer.feed(b"a\nb\nc")
    buffer.clear()
    assert (buffer.more, buffer.begun, buffer.take(5)) == (False, 0, [])
    buffer.feed(b"d\n")
    assert buffer.take(5) == [b"d"]


def test_a_line_without_an_end_costs_its_bound_and_a_time_that_grows_with_it() -> None:
    buffer = LineBuffer(1 << 20)
    tracemalloc.start()
    began = process_time()
    for _ in range(300_000):
        buffer.feed(b"x" * 100)
    seconds, (_, most) = process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 3 << 20
    assert seconds < 10  # 0.3 s, and 500 times as much if each piece were joined to what is there
    buffer.feed(b"\nnext\n")
    first, second = buffer.take(2)
    assert (len(first), second) == ((1 << 20) + 1, b"next")
