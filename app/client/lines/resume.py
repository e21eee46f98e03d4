"""How far a file was pushed, kept in another file: after a crash pushing goes on at this mark, and repeats little."""

import hashlib
import json
import os
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from app.errors import PermanentError

HEAD = 4096  # bytes by which a file is known again
SKIP = 1 << 20


class Mark(Struct, frozen=True):
    """How far a source was pushed: all lines before `line` are settled."""

    line: int = 1
    offset: int = 0  # its first byte
    head: str = ""  # SHA-256 of the first bytes of the source
    head_bytes: int = 0  # how many; none of them behind `offset`


def read_mark(path: Path) -> Mark:
    """The mark in the file; the beginning of the source when the file is missing. Raises PermanentError for another
    content, or a file that cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except FileNotFoundError:
        return Mark()
    except (OSError, msgspec.MsgspecError) as error:
        raise PermanentError(f"{path} holds no mark ({error}): remove the file to begin anew") from None


def write_mark(path: Path, mark: Mark) -> None:
    """Write the mark whole or not at all. Raises PermanentError when the file cannot be written."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_bytes(json.dumps(msgspec.to_builtins(mark)).encode() + b"\n")
        os.replace(new, path)
    except OSError as error:
        raise PermanentError(f"cannot write {path}: {error.strerror}") from None


def skip(source: BinaryIO, mark: Mark, path: Path) -> None:
    """Read `source`, which stands at its beginning, on to the mark, and check that it is the source of the mark; `path`
    is the file of the mark, for the message. Raises PermanentError when it is another source.
    """
    head = source.read(mark.head_bytes)
    left = mark.offset - len(head)
    if source.seekable():
        size = source.seek(0, os.SEEK_END)
        left = mark.offset - source.seek(min(mark.offset, size))
    while left and (passed := source.read(min(left, SKIP))):
        left -= len(passed)
    if left or (mark.head_bytes and _digest(head) != mark.head):
        raise PermanentError(f"{path} is of another source, or of a longer one: remove the file to begin anew")


def moved(mark: Mark, line: int, offset: int, head: bytes) -> Mark:
    """The mark further on, at the line `line` with its first byte at `offset`; `head`: the first bytes of a source that
    was pushed from its beginning, else empty.
    """
    head = head[: min(offset, HEAD)]
    if len(head) > mark.head_bytes:
        return Mark(line, offset, _digest(head), len(head))
    return Mark(line, offset, mark.head, mark.head_bytes)


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()
