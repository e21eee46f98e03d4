"""`iot-stream top`: a deployment on one screen, or as lines or JSON."""

import asyncio
import signal
import threading
import time
from typing import Annotated

import typer

from app.cli.options import Directory, on_a_terminal, quiet
from app.cli.stack.deployment import Places, places
from app.local.session import stop_on_signals
from app.runtime.interrupt import set_within
from app.top.text import plain
from app.top.watch import EVERYBODY, Watch

PATIENCE = 1.0  # seconds that a picture waits for sources that have not answered


def top(
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="A process's metrics address, of whichever program; repeatable. Default: the local stack's."),
    ] = None,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2, max=3600)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, one interval apart, print, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine: one line of JSON each time.")] = False,
    directory: Directory = None,
) -> None:
    """Watch any deployment: rates, lag, age, books, breaker, of each process and partition. Changes nothing.

    Without --metrics the local stack is shown, else the process that the settings name. Kafka is asked for the group
    and its lag when IOT_KAFKA_BROKER is set, the database for open alerts when IOT_DATABASE_URL is. Without a terminal:
    one line every interval.

    Example: iot-stream top --metrics worker-1:9000 --metrics worker-2:9000 --metrics bridge:9001
    """
    where = places(metrics or (), directory)
    quiet()
    if once or as_json or not on_a_terminal():
        asyncio.run(_print(where, interval, once, as_json))
        return
    stopped = threading.Event()
    stop_on_signals(stopped)
    raise typer.Exit(asyncio.run(_screen(where, interval, stopped)))


async def _screen(where: Places, interval: float, stopped: threading.Event) -> int:
    """The exit code: 1 when the screen crashed, whose reason is printed by then."""
    from app.top.screen.app import TopApp

    async with Watch(*where) as watch:
        app = TopApp(watch, interval, stopped=stopped)
        await app.run_async()
    return app.return_code or 0


async def _print(where: Places, interval: float, once: bool, as_json: bool) -> None:
    stopped = asyncio.Event()
    shown = plain.as_json if as_json else plain.page if once else plain.line
    async with Watch(*where) as watch:
        due = time.monotonic()
        await watch.look(EVERYBODY)  # rates need two; Ctrl-C ends this one at once, as it ends `--once`
        for number in () if once else (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        while not await set_within(stopped, max(0.0, due + interval - time.monotonic())):
            due = time.monotonic()
            snapshot = await watch.look(EVERYBODY if once else min(interval, PATIENCE))
            print(shown(snapshot), flush=True)
            if once:
                break
