"""`iot-stream down`: stop what `up` started."""

import os
import signal

from app.cli.options import Directory, say
from app.errors import PermanentError
from app.local.layout import Layout, default_root
from app.local.session import locked, supervisor_pid
from app.local.stack import Stack
from app.local.waits import wait_for

LONGEST_STOP = 180.0  # seconds; more than all deadlines of the stop order together


def down(directory: Directory = None) -> None:
    """Stop all in order, losing nothing: fleet, bridge, worker, notifier, Mosquitto, Kafka, PostgreSQL.

    Example: iot-stream down
    """
    layout = Layout(directory or default_root())
    if pid := supervisor_pid(layout):
        os.kill(pid, signal.SIGTERM)
        if not wait_for(lambda: supervisor_pid(layout) is None, LONGEST_STOP):
            raise PermanentError(f"the supervisor (process {pid}) does not end; see {layout.root}/log")
        print("stopped")
    elif layout.processes.exists():
        stop_orphans(layout)
        print("stopped")
    else:
        print("nothing was running")


def stop_orphans(layout: Layout) -> None:
    """Stop the processes that a killed supervisor has left: they are adopted, and stopped in order. Raises
    PermanentError when a supervisor runs.
    """
    with locked(layout):
        stack = Stack(layout, layout.remembered_ports(), say)
        stack.supervisor.adopt(stack.services)
        stack.stop()
