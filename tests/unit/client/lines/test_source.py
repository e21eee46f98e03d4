"""Bytes as lines: each once, with its place, whatever the pieces they come in."""

import asyncio
import io
import os
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client.lines import source
from app.client.lines.source import Line, Lines


class Pieces(io.RawIOBase):
    """Gives its bytes in pieces of these sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes = data, sizes

    def read1(self, size: int) -> bytes:
        most = self._sizes.pop(0) if self._sizes else size
        piece, self._data = self._data[:most], self._data[most:]
        return piece


async def lines_of(lines: Lines) -> list[Line]:
    return [line async for block in lines.blocks() for line in block]


def all_of(data: bytes, sizes: list[int]) -> list[Line]:
    return asyncio.run(lines_of(Lines(cast("BinaryIO", Pieces(data, sizes)))))


@given(data=st.text("ab\n\r", max_size=40).map(str.encode), sizes=st.lists(st.integers(1, 5), max_size=30))
def test_lines_are_the_same_whatever_the_pieces(data: bytes, sizes: list[int]) -> None:
    found = all_of(data, sizes)
    assert [line.text for line in found] == (data.removesuffix(b"\n").split(b"\n") if data else [])
    assert [line.number for line in found] == list(range(1, len(found) + 1))
    for line in found:
        assert data[line.start : line.after].removesuffix(b"\n") == line.text
    assert [line.after for line in found[:-1]] == [line.start for line in found[1:]]
    assert not found or found[-1].after == len(data)


def test_a_source_that_stands_somewhere_goes_on_there() -> None:
    found = asyncio.run(lines_of(Lines(io.BytesIO(b"c\nd"), 3, 100)))
    assert [(line.number, line.start, line.after, line.text) for line in found] == [
        (3, 100, 102, b"c"),
        (4, 102, 103, b"d"),
    ]


def test_a_line_without_an_end_is_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LINE_MAX", 100)
    lines = Lines(io.BytesIO(b"ok\n" + b"x" * 500 + b"\nnever"))
    assert [line.text for line in asyncio.run(lines_of(lines))] == [b"ok", b"x" * 500, b"never"], "read in one block"
    lines = Lines(cast("BinaryIO", Pieces(b"ok\n" + b"x" * 500 + b"\nnever", [3, 50, 60, 500])))
    assert [line.text for line in asyncio.run(lines_of(lines))] == [b"ok"]
    assert lines.overlong == 2


def test_what_is_waited_for_holds_up_nobody() -> None:
    reading, writing = os.pipe()

    async def run() -> list[bytes]:
        found = []
        with os.fdopen(reading, "rb") as pipe:
            blocks = Lines(pipe).blocks()
            for text in (b"one\n", b"two\n"):
                coming = asyncio.ensure_future(anext(blocks))
                await asyncio.sleep(0.05)
                assert not coming.done()
                os.write(writing, text)
                found += [line.text for line in await coming]
            os.close(writing)
            found += [line.text async for block in blocks for line in block]
        return found

    assert asyncio.run(run()) == [b"one", b"two"]


def test_no_more_is_read_than_is_taken() -> None:
    pieces = Pieces(b"x\n" * 1000, [2] * 1000)

    async def run() -> None:
        blocks = Lines(cast("BinaryIO", pieces)).blocks()
        await anext(blocks)
        await asyncio.sleep(0.05)
        assert len(pieces._data) >= 2 * (1000 - source.AHEAD - 2)
        await blocks.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())


def test_a_source_that_fails_says_so() -> None:
    class Broken(Pieces):
        def read1(self, size: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        asyncio.run(lines_of(Lines(cast("BinaryIO", Broken(b"", [])))))
