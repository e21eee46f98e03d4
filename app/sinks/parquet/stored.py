"""The port of what the files of a lake are kept in. Paths are relative to its root, with slashes.

All of it blocks, and is called in a thread. Each call raises OSError when it cannot be done now, and may be made again.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol


class StoredFile(NamedTuple):
    """A file that is there."""

    path: str
    size: int  # bytes


class LakeStore(Protocol):
    """A directory or a bucket."""

    def check(self) -> None:
        """Look whether all the calls below could be made; makes what is missing. Raises SinkMisconfigured for a place
        that can never be one.
        """

    def put(self, path: str, content: Any) -> None:
        """Write a whole file, durably; one of that name is replaced. `content` is a buffer."""

    def put_new(self, path: str, content: bytes) -> bool:
        """Write a small file, whole or not at all; False when one of that name is there, which stays as it is."""

    def move(self, source: str, target: str) -> bool:
        """Give a file its name, durably; one of that name is replaced. False when there is no `source`."""

    def read(self, path: str) -> bytes | None:
        """The content of a small file; None: there is none."""

    def list(self, folder: str = "") -> Sequence[StoredFile]:
        """All files below a directory, by path; none when it is not there."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; what is not there is left out."""

    def input(self, path: str) -> Any:
        """A file to read from at any place (pyarrow.NativeFile)."""

    def alone(self) -> AbstractContextManager[bool]:
        """For as long as the context lasts, no other process has this of the same lake; False: one has it now."""
