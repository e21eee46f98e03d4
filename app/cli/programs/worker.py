"""`iot-stream worker`: `faust -A app worker` with the arguments it needs."""

import os
from typing import Annotated

import typer

from app.runtime.command_line import program_command
from app.settings.settings import read


def worker(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Further arguments of `faust worker`, after `--`.")
    ] = None,
) -> None:
    """Run one worker in place of this process; stop it with SIGTERM. Start as many workers as you like.

    Each worker of a machine wants its own IOT_STATE_DIR and IOT_METRICS_PORT.

    Example: IOT_STATE_DIR=/var/lib/iot/2 IOT_METRICS_PORT=9101 iot-stream worker
    """
    read()  # wrong settings are named here, before Faust starts; Faust reports the rest itself
    full = [*program_command("worker"), *(arguments or [])]
    os.execv(full[0], full)  # noqa: S606 - no shell is wanted
