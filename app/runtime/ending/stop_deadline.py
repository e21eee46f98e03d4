"""The last resort of a stop: in, a number of seconds; a process that still runs when they are over is ended."""

import os
import threading

import structlog

from app.runtime.ending.exit_codes import ExitCode

log = structlog.get_logger()


class StopDeadline:
    """Ends the process like a kill -9, which loses nothing: what is not acknowledged is done again."""

    def __init__(self, seconds: float) -> None:
        """`seconds` run from `begin` to the end of the process, with ExitCode.STOP_GIVEN_UP."""
        self._seconds = seconds
        self._thread = threading.Thread(target=self._watch, name="stop-deadline", daemon=True)

    def begin(self) -> None:
        """Start to count; a second call changes nothing. A thread of its own, as the loop may be what hangs."""
        if self._thread.ident is None:
            self._thread.start()

    def _watch(self) -> None:
        threading.Event().wait(self._seconds)
        left = [thread.name for thread in threading.enumerate() if thread is not self._thread]
        log.error("stop_given_up", after_seconds=self._seconds, threads=left, exit_code=int(ExitCode.STOP_GIVEN_UP))
        os._exit(ExitCode.STOP_GIVEN_UP)
