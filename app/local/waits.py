"""A wait for something that another process brings about."""

import threading
from collections.abc import Callable

from app.local.start_progress import SECONDS


def wait_for(reached: Callable[[], bool], seconds: float, waiting: Callable[[float], None] = lambda _: None) -> bool:
    """Ask `reached` ten times a second, for so many seconds. False when the aim was not reached in that time. `waiting`
    is called every SECONDS, with the seconds so far.
    """
    pause = threading.Event()
    for tenths in range(int(seconds * 10)):
        if reached():
            return True
        if tenths and tenths % int(SECONDS * 10) == 0:
            waiting(tenths / 10)
        pause.wait(0.1)
    return reached()
