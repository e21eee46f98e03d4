"""A support archive: texts by their names in, a mask for secrets in; out, one file to send to somebody."""

import io
import os
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from app.errors import PermanentError

FOLDER = "iot-stream-support"  # all entries are below it


def write(path: Path, entries: Mapping[str, str], masked: Callable[[str], str]) -> None:
    """Write a gzipped tar (mode 0600) with a file for each entry, `masked`. Raises PermanentError when there is a file
    of that name, OSError when it cannot be written; nothing is left of it then.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise PermanentError(f"{path} is there already: name a file that is not") from None
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in entries.items():
                content = masked(text).encode()
                entry = tarfile.TarInfo(f"{FOLDER}/{name}")
                entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(content))
    except BaseException:
        path.unlink()
        raise
