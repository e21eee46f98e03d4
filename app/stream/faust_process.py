"""The process around a worker: its output, its exit code, and the longest its stop may take."""

import signal
import sys
from typing import Any, NoReturn

import faust
from faust.cli.worker import worker as worker_command

from app.errors import DeadLetterLimitError, IotStreamError
from app.runtime.ending.exit_codes import last_words
from app.runtime.ending.stop_deadline import StopDeadline


def _nothing() -> None:
    """Do nothing: for an app without a `before_start`."""


def _leave(error: BaseException) -> None:
    """End the process as every command does for an error that an operator understands."""
    if said := last_words(error):
        print(said.line, file=sys.stderr)  # noqa: T201 - the last words, after logging
        raise SystemExit(said.code) from None


class FaustProcess(faust.Worker):
    """`faust worker` without banner and spinner: our log lines alone; and a stop ends the process in time."""

    def __init__(self, app: Any, *args: Any, **options: Any) -> None:
        # Without debugging (-d, $FAUST_DEBUG), which opens a console that lets anybody on this machine run code.
        super().__init__(app, *args, **{**options, "debug": False})
        self.spinner = None
        self._deadline = StopDeadline(app.stop_seconds)

    def execute_from_commandline(self) -> NoReturn:
        """Run until stopped; leaves by SystemExit: 0 stopped, else as `last_words` says of what ended it."""
        try:
            getattr(self.app, "before_start", _nothing)()
        except (IotStreamError, OSError) as error:
            _leave(error)
        try:
            super().execute_from_commandline()
        except SystemExit:
            if isinstance(self.crash_reason, DeadLetterLimitError | OSError):
                _leave(self.crash_reason)
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
