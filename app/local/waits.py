"""A wait for something that another process brings about."""

import threading
from collections.abc import Callable


def wait_for(reached: Callable[[], bool], seconds: float) -> bool:
    """Ask `reached` ten times a second, for so many seconds. False when the aim was not reached in that time."""
    pause = threading.Event()
    for _ in range(int(seconds * 10)):
        if reached():
            return True
        pause.wait(0.1)
    return reached()
