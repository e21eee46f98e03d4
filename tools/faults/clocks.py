"""A time of day of its own for a process, which may jump while it runs: a preloaded library adds to the machine's."""

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


def available() -> bool:
    """Clocks can jump where there is a C compiler. (Debian's libfaketime breaks time.sleep of Python 3.11.)"""
    return shutil.which("cc") is not None


class Clock:
    """The clock of one process, which has to be started with `environment`."""

    def __init__(self, directory: Path, name: str) -> None:
        """Its files are in `directory`."""
        self._file = directory / f"{name}.skew"
        self._file.write_bytes(bytes(8))
        library = directory / "clock.so"
        if not library.exists():
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        self.environment = {"LD_PRELOAD": str(library), "SKEW_FILE": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Be so far off the machine's clock from now on; at once."""
        with self._file.open("r+b") as file:  # the same file: it is mapped
            file.write(struct.pack("=q", seconds))
