"""Ctrl-C and SIGTERM as an event: what is under way is finished, and what is done is noted."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[asyncio.Event]:
    """The event that the first signal sets; the second one ends the program. To be used within an event loop; a thread
    other than the main one hears no signal.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
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
