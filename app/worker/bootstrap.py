"""The process of a worker: settings are loaded and the event loop is chosen; `faust -A app worker` starts `app`."""

import sys

from app.errors import SettingsError
from app.kafka.close_clients import raise_connection_errors
from app.runtime.ending.exit_codes import ExitCode
from app.runtime.event_loop import use_uvloop
from app.runtime.tracing.start import start_tracing
from app.settings.settings import load
from app.worker.build import build_worker

try:
    settings = load()
    tracing = start_tracing("worker", settings)
except SettingsError as error:
    print(f"iot-stream: {error}", file=sys.stderr)  # noqa: T201 - as `iot-stream` reports errors, with its exit code
    raise SystemExit(ExitCode.WRONG) from None
use_uvloop()
raise_connection_errors()
worker = build_worker(settings, tracing)
app = worker.app
