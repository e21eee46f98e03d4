"""Options and output of several commands: the directory of the local stack, a line for its starter, a terminal."""

import logging
import os
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import structlog
import typer

from app.backtest.duration import duration
from app.errors import PermanentError
from app.local.layout import SINKS, WAYS

Ingest = Annotated[
    str, typer.Option(help=f"Gateways to start beside MQTT, separated by commas: {', '.join(WAYS)}, or all.")
]
Sinks = Annotated[
    str, typer.Option(help=f"Sinks to start beside the worker, separated by commas: {', '.join(SINKS)}, or all.")
]
Directory = Annotated[Path | None, typer.Option("--dir", help="Where data, logs and stack.env go. [.local]")]


def say(line: str) -> None:
    """Print one line on standard error, unless it was closed: the program must not end with its terminal."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def escape_unencodable() -> None:
    """Have standard output write `\\xe9` for a character that the terminal's encoding does not have."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # typed as any TextIO


def past(text: str, option: str) -> timedelta:
    """How far the value `text` of `option` looks back (90s, 15m, 12h, 7d, 2w). Raises BadParameter that names the
    option.
    """
    try:
        return duration(text)
    except PermanentError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def moment(text: str | None, option: str) -> int | None:
    """The milliseconds since 1970 that an age (`12h`) or a time with an offset says; None for None. Raises
    BadParameter.
    """
    if text is None:
        return None
    with suppress(PermanentError):
        return int((time.time() - duration(text).total_seconds()) * 1000)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        what = f"{text!r} is neither an age such as 90s, 15m, 12h, 7d or 2w, nor a time such as 2026-11-21T09:00:00Z"
        raise typer.BadParameter(what, param_hint=option) from None
    if at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no offset: write {text}Z for UTC", param_hint=option)
    return int(at.timestamp() * 1000)


def ways_in(text: str) -> tuple[str, ...]:
    """The gateways that the value `text` of --ingest names, in the order of WAYS; none for an empty text. Raises
    BadParameter for an unknown name.
    """
    return _among(text, WAYS, "--ingest")


def ways_out(text: str) -> tuple[str, ...]:
    """The sinks that the value `text` of --sinks names, in the order of SINKS; none for an empty text. Raises
    BadParameter for an unknown one.
    """
    return _among(text, SINKS, "--sinks")


def _among(text: str, every: tuple[str, ...], option: str) -> tuple[str, ...]:
    names = [name for part in text.split(",") if (name := part.strip().lower())]
    if unknown := [name for name in names if name not in (*every, "all")]:
        what = f"{', '.join(map(repr, unknown))}: name {', '.join(every)}, or all"
        raise typer.BadParameter(what, param_hint=option)
    return every if "all" in names else tuple(name for name in every if name in names)


def quiet() -> None:
    """Let clients of servers log nothing: their errors are in the command's answer."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def moves_cursor() -> bool:
    """Whether standard error is a terminal on which a line can be written over; TERM=dumb is none."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def on_a_terminal() -> bool:
    """Whether a person looks and may press keys: a full screen draws on standard error and reads standard input."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream.isatty() for stream in streams) and os.environ.get("TERM", "dumb") != "dumb"
