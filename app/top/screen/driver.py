"""The terminal, which may be closed under the screen: output then goes nowhere, and the screen ends.

Textual's thread that writes would end with the first error, and later output would wait for that thread for good.
"""

from collections.abc import Callable
from typing import IO, Any

from textual.drivers.linux_driver import LinuxDriver


class TerminalDriver(LinuxDriver):
    """Textual's driver, but for the end of its terminal."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._file: Any = ClosableOutput(self._file, self._closed)

    def _closed(self) -> None:
        self._loop.call_soon_threadsafe(self._app.exit)

    def _run_input_thread(self) -> None:
        """Keys until the terminal is closed."""
        try:
            self.run_input_thread()
        except OSError:
            self._closed()


class ClosableOutput:
    """A file of which no error is raised: `closed` is called at the first one, once."""

    def __init__(self, file: IO[str], closed: Callable[[], None]) -> None:
        self._file, self._closed, self._open = file, closed, True

    def write(self, text: str) -> None:
        """Write, while the terminal is open."""
        self._try(lambda: self._file.write(text))

    def flush(self) -> None:
        """Flush, while the terminal is open."""
        self._try(self._file.flush)

    def fileno(self) -> int:
        """The descriptor of the terminal."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Whether the file is a terminal."""
        return self._file.isatty()

    def _try(self, act: Callable[[], object]) -> None:
        if self._open:
            try:
                act()
            except (OSError, ValueError):  # ValueError: the file object itself is closed
                self._open = False
                self._closed()
