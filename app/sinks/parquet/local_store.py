"""A directory as the store of a lake: files are written, synced to the disk, and renamed."""

import errno
import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.sinks.parquet.names import STAGING
from app.sinks.parquet.stored import StoredFile
from app.sinks.port import SinkMisconfigured

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
_LOCK = "_compaction.lock"


class LocalStore:
    """The directory `root`, which is created when missing."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def check(self) -> None:
        """As in LakeStore: checks that a file can be written, and hard-linked, as claims are."""
        if self._root.exists() and not self._root.is_dir():
            raise SinkMisconfigured(f"IOT_PARQUET_DIR: {self._root} is no directory")
        probe = f"{STAGING}/probe-{uuid.uuid4().hex[:8]}"
        try:
            self.put(probe, b"probe")
        except OSError as error:
            if error.errno in _NOT_OURS:
                cure = "give this account the right to write there, or name another directory"
                raise SinkMisconfigured(f"IOT_PARQUET_DIR: {self._root}: {error.strerror}; {cure}") from error
            raise
        try:
            os.link(self._root / probe, self._root / f"{probe}-link")
        except OSError as error:
            if error.errno in _NO_LINKS:
                cure = "its file system has no hard links, without which two processes could write the same records"
                raise SinkMisconfigured(f"IOT_PARQUET_DIR: {self._root}: {cure}; name a disk, or s3://") from error
            raise
        finally:
            with suppress(OSError):
                self.remove([probe, f"{probe}-link"])

    def put(self, path: str, content: Any) -> None:
        """As in LakeStore."""
        target = self._root / path
        _make(target.parent)
        try:
            _write(target, content)
        except OSError:  # free the space, in case the disk is full
            with suppress(OSError):
                target.unlink(missing_ok=True)
            raise
        _sync(target.parent)

    def put_new(self, path: str, content: bytes) -> bool:
        """As in LakeStore: creating a hard link is atomic, and fails for a name that exists."""
        target = self._root / path
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        _make(target.parent)
        try:
            _write(draft, content)
            os.link(draft, target)
        except FileExistsError:
            return False
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        _sync(target.parent)
        return True

    def move(self, source: str, target: str) -> bool:
        """As in LakeStore."""
        named = self._root / target
        _make(named.parent)
        try:
            os.replace(self._root / source, named)
        except FileNotFoundError:
            return False
        _sync(named.parent)
        return True

    def read(self, path: str) -> bytes | None:
        """As in LakeStore."""
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def list(self, folder: str = "") -> Sequence[StoredFile]:
        """As in LakeStore."""
        found = []
        for place, _, names in os.walk(self._root / folder, onerror=_unless_missing):
            for name in names:
                path = Path(place) / name
                with suppress(FileNotFoundError):  # removed meanwhile
                    found.append(StoredFile(path.relative_to(self._root).as_posix(), path.stat().st_size))
        return sorted(found)

    def remove(self, paths: Iterable[str]) -> None:
        """As in LakeStore."""
        for path in paths:
            (self._root / path).unlink(missing_ok=True)

    def input(self, path: str) -> Any:
        """As in LakeStore."""
        return pa.OSFile(str(self._root / path), "rb")

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """As in LakeStore: a lock that is released when the process ends."""
        _make(self._root)
        with (self._root / _LOCK).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def _write(path: Path, content: Any) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _make(folder: Path) -> None:
    """Create a directory and its parents durably: they exist after a power failure too."""
    missing = [folder, *folder.parents]
    missing = missing[: next((at for at, one in enumerate(missing) if one.exists()), len(missing))]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        _sync(one.parent)


def _sync(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
