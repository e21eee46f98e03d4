"""The port of the store of a lake's files. Paths are relative to the lake's root, with slashes.

All calls block, and are made in a thread. Each call raises OSError when the store is unavailable, and may be retried.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol


class StoredFile(NamedTuple):
    """A file in the store."""

    path: str
    size: int  # bytes


class LakeStore(Protocol):
    """A directory or a bucket."""

    def check(self) -> None:
        """Check that the calls below can succeed; creates missing directories. Raises SinkMisconfigured for a place
        that can never be a store.
        """

    def put(self, path: str, content: Any) -> None:
        """Write a whole file, durably; a file of that name is replaced. `content` is a buffer."""

    def put_new(self, path: str, content: bytes) -> bool:
        """Write a small file atomically; False when a file of that name exists, which is left unchanged."""

    def move(self, source: str, target: str) -> bool:
        """Rename a file, durably; a file of the target's name is replaced. False when there is no `source`."""

    def read(self, path: str) -> bytes | None:
        """The content of a small file; None: there is no such file."""

    def list(self, folder: str = "") -> Sequence[StoredFile]:
        """All files below a directory, by path; empty when the directory does not exist."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; missing files are ignored."""

    def input(self, path: str) -> Any:
        """A file for random access (pyarrow.NativeFile)."""

    def alone(self) -> AbstractContextManager[bool]:
        """An exclusive lock of the lake for the duration of the context; False: another process has the lock."""
