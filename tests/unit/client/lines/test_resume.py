"""How far a source was pushed: known again, or refused."""

import io
import os
from pathlib import Path

import pytest

from app.client.lines.resume import HEAD, Mark, moved, read_mark, skip, write_mark
from app.errors import PermanentError

DATA = b"".join(b'{"line":%d}\n' % number for number in range(2000))


def mark_at(offset: int) -> Mark:
    return moved(Mark(), 5, offset, DATA[:HEAD])


@pytest.mark.parametrize("offset", [0, 1, 100, HEAD, HEAD + 1, len(DATA)])
@pytest.mark.parametrize("seekable", [True, False])
def test_a_source_goes_on_at_its_mark(tmp_path: Path, offset: int, seekable: bool) -> None:
    path = tmp_path / "mark"
    write_mark(path, mark_at(offset))
    source = io.BytesIO(DATA) if seekable else pipe_of(DATA)
    with source:
        skip(source, read_mark(path), path)
        assert source.read() == DATA[offset:]


def pipe_of(data: bytes) -> io.BufferedReader:
    """What holds it whole: nobody writes meanwhile."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return os.fdopen(reading, "rb")


@pytest.mark.parametrize("data", [b"", DATA[:500], b"X" + DATA[1:], DATA[:50] + b"X" + DATA[51:]])
@pytest.mark.parametrize("seekable", [True, False])
def test_another_source_is_refused(tmp_path: Path, data: bytes, seekable: bool) -> None:
    source = io.BytesIO(data) if seekable else pipe_of(data)
    with source, pytest.raises(PermanentError, match="is of another source, or of a longer one"):
        skip(source, mark_at(1000), tmp_path / "mark")


def test_a_source_that_grew_is_the_same() -> None:
    source = io.BytesIO(DATA + b"more\n")
    skip(source, mark_at(len(DATA)), Path("mark"))
    assert source.read() == b"more\n"


def test_the_head_grows_with_the_mark_and_then_stays() -> None:
    early = moved(Mark(), 2, 10, DATA[:HEAD])
    assert early.head_bytes == 10
    late = moved(early, 90, 9000, DATA[:HEAD])
    assert late.head_bytes == HEAD
    resumed = moved(late, 95, 9500, b"")
    assert (resumed.head, resumed.head_bytes, resumed.line, resumed.offset) == (late.head, HEAD, 95, 9500)


def test_without_a_file_it_begins_at_the_beginning(tmp_path: Path) -> None:
    assert read_mark(tmp_path / "none") == Mark()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"line":"x"}'])
def test_a_file_that_is_no_mark_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mark"
    path.write_bytes(content)
    with pytest.raises(PermanentError, match=f"{path} holds no mark"):
        read_mark(path)


def test_a_mark_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    write_mark(path, mark_at(10))
    write_mark(path, mark_at(20))
    assert read_mark(path) == mark_at(20)
    assert [one.name for one in tmp_path.iterdir()] == ["mark"]
    with pytest.raises(PermanentError, match="cannot write"):
        write_mark(tmp_path / "no" / "mark", mark_at(20))
