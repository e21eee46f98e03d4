"""Ctrl-C and SIGTERM as an event: what is under way is finished, and what is done is noted."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

from app.cli.options import say
from app.runtime.ending.exit_codes import ExitCode
from app.runtime.interrupt import Interrupt

T = TypeVar("T")


@contextmanager
def interruptible(event: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
    """The event (`event`, if there is one already) that the first signal sets; the second one ends the program. To be
    used within an event loop; a thread other than the main one hears no signal.
    """
    loop, stop = asyncio.get_running_loop(), event or asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()

    def stopped() -> None:
        stop.set()
        for one in signals:
            loop.remove_signal_handler(one)

    for one in signals:
        loop.add_signal_handler(one, stopped)
    try:
        yield stop
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


async def until_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event, begun: Callable[[], bool]) -> T:
    """What `work` returns, which ends in order by itself once `stop` is set. While it has not `begun` (it connects, or
    asks for the first time) there is nothing to end in order: then it is cancelled at once. Raises typer.Exit for that,
    and what `work` raises.
    """
    task = asyncio.ensure_future(work)
    try:
        await Interrupt(stop).first_of(task)
        if not task.done() and not begun():
            say("iot-stream: interrupted before anything was read")
            raise typer.Exit(ExitCode.INTERRUPTED)
        return await task
    finally:
        if task.cancel():
            await asyncio.wait({task})
