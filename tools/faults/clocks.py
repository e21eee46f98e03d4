"""A separate time of day for a process, with jumps at run time: a preloaded library adds to the machine's time."""

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


def available() -> bool:
    """Whether clocks can jump, which needs a C compiler. (Debian's libfaketime breaks time.sleep of Python 3.11.)"""
    return shutil.which("cc") is not None


class Clock:
    """The clock of one process; the process must be started with `environment`."""

    def __init__(self, directory: Path, name: str) -> None:
        """`directory`: for the library and the file with the clock's offset."""
        self._file = directory / f"{name}.skew"
        self._file.write_bytes(bytes(8))
        library = directory / "clock.so"
        if not library.exists():
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        self.environment = {"LD_PRELOAD": str(library), "SKEW_FILE": str(self._file)}

    def jump(self, seconds: int) -> None:
        """Set the offset from the machine's clock; the offset takes effect at once."""
        with self._file.open("r+b") as file:  # the same file, because the process has mapped it
            file.write(struct.pack("=q", seconds))
