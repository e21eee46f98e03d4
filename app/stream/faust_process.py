"""The process around a worker: its output, its exit code, and the longest its stop may take."""

import signal
import sys
from typing import Any, NoReturn

import faust
from faust.cli.worker import worker as worker_command

from app.errors import DeadLetterLimitError, PermanentError, TransientError
from app.runtime.stop_deadline import StopDeadline

LIMIT_EXIT_CODE = 3  # too many dead letters; 1 is any other crash, 2 wrong settings


def _nothing() -> None:
    """Do nothing: for an app without a `before_start`."""


class FaustProcess(faust.Worker):
    """`faust worker` without banner and spinner: our log lines alone; and a stop ends the process in time."""

    def __init__(self, app: Any, *args: Any, **options: Any) -> None:
        # Without debugging (-d, $FAUST_DEBUG), which opens a console that lets anybody on this machine run code.
        super().__init__(app, *args, **{**options, "debug": False})
        self.spinner = None
        self._deadline = StopDeadline(app.stop_seconds)

    def execute_from_commandline(self) -> NoReturn:
        """Run until stopped; leaves by SystemExit: 0 stopped, 1 crashed, LIMIT_EXIT_CODE."""
        try:
            getattr(self.app, "before_start", _nothing)()
        except (PermanentError, TransientError) as error:
            print(f"iot-stream: {error}", file=sys.stderr)  # noqa: T201 - as every command says it
            raise SystemExit(1) from None
        try:
            super().execute_from_commandline()
        except SystemExit:
            if isinstance(self.crash_reason, DeadLetterLimitError):
                print(f"iot-stream: {self.crash_reason}", file=sys.stderr)  # noqa: T201 - the last words, after logging
                raise SystemExit(LIMIT_EXIT_CODE) from None
            raise
        raise AssertionError("unreachable: faust leaves by SystemExit")

    def stop_and_shutdown(self) -> None:
        """Faust comes here after a crash too."""
        self._deadline.begin()
        super().stop_and_shutdown()

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        self._deadline.begin()
        super()._schedule_shutdown(signal)

    def _say(self, *_: Any, **__: Any) -> None:
        """Drop what Faust prints."""


# The command prints a banner, and asks no setting whether to.
worker_command.on_worker_created = lambda _command, _worker: None
# No options for a web server: there is none, and --web-port would change the name by which the assignor knows a worker.
worker_command._init_worker_options = lambda _command, *_, **__: None
