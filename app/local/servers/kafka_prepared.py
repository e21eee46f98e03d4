"""What makes each start of Kafka cheap, made once and kept beside the jars: its classes as the JVM maps them into
memory, and the first records of a log, which are the same for every broker.

Without this archive Kafka starts as well, but takes 5 to 6 s of a core instead of 2.5 s.
"""

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from app.errors import IotStreamError


class Prepared(NamedTuple):
    """Files of a directory; a file that could not be made is missing."""

    directory: Path

    @property
    def classes(self) -> Path:
        """The archive of classes."""
        return self.directory / "classes.jsa"

    @property
    def first_records(self) -> Path:
        """What `StorageTool format` writes besides the ids of a broker."""
        return self.directory / "bootstrap.checkpoint"

    @property
    def jvm(self) -> list[str]:
        """Options of the JVM. A JVM that the archive does not suit goes on without the archive."""
        return [f"-XX:SharedArchiveFile={self.classes}"] if self.classes.exists() else []


def prepared(java: str, jars: Path, settings: str, make: Callable[[Prepared], None]) -> Prepared | None:
    """The files for this Java, these jars and `settings`; `make` makes them the first time, which takes some 10 s,
    and need not succeed. None: no directory can keep them.
    """
    try:
        home = jars.parent / f"prepared-{_digest(java, jars, settings)}"
        if not home.is_dir():
            _make_once(home, make)
    except OSError:  # a full disk, or a cache of another account
        return None
    return Prepared(home)


def _digest(java: str, jars: Path, settings: str) -> str:
    files = [Path(java).resolve(), *sorted(jars.iterdir())]
    marks = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256("\n".join([settings, *marks]).encode()).hexdigest()[:12]


def _make_once(home: Path, make: Callable[[Prepared], None]) -> None:
    with home.with_name("prepared.lock").open("w") as lock:  # two starts at once make the files once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if home.is_dir():
            return
        with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
            made = Prepared(Path(scratch) / "made")
            made.directory.mkdir()
            try:
                make(made)
            except IotStreamError:  # the files made so far are kept: the rest is not tried again at every start
                made.classes.unlink(missing_ok=True)
            shutil.move(made.directory, home)
