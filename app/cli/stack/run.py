"""`iot-stream run`: `up` with a simulated fleet, and a live screen of what happens."""

import sys
import threading

from rich.console import Console
from rich.live import Live

from app.cli.options import Directory, say
from app.cli.stack.up import NoFleet, join, prepare, ready_line
from app.local.layout import Layout, default_root
from app.local.screen.observer import Observer
from app.local.screen.screen import draw, plain
from app.local.session import StackSession, locked, stop_on_signals, supervisor_pid
from app.local.stack import Stack

PERIOD = 2.0  # seconds between two looks when nobody draws
REFRESH = 1.0  # and on a terminal


def run(no_fleet: NoFleet = False, directory: Directory = None) -> None:
    """Start everything and watch messages being received, stored, dead-lettered and alerted on. Ctrl-C stops it all.

    Where a stack runs already, this shows it and leaves it running. Without a terminal: one line every 2 s.

    Example: iot-stream run
    """
    layout = Layout(directory or default_root())
    if pid := supervisor_pid(layout):
        join(layout, pid, no_fleet)
        stopped = threading.Event()
        stop_on_signals(stopped)
        watch(Stack(layout, layout.remembered_ports(), say), stopped)
        return
    prepare(layout, no_fleet)
    say("starting Kafka, PostgreSQL, Mosquitto, bridge, worker, notifier and a simulated fleet")
    with locked(layout), StackSession(layout, say) as session:
        if session.wait_ready():
            print(ready_line(layout), flush=True)
            watch(session.stack, session.stopped)
        say("stopping")


def watch(stack: Stack, stopped: threading.Event) -> None:
    """Show the stack until stopped."""
    console = Console()
    with Observer(stack.mosquitto, stack.metrics_url, ready_line(stack.layout)) as observer:
        if not console.is_terminal:
            while not stopped.wait(PERIOD):
                print(plain(observer.look(stack.supervisor.unwell())), flush=True)
            return
        with Live(console=console, auto_refresh=False, redirect_stdout=False) as live:
            while not stopped.wait(REFRESH):
                live.update(draw(observer.look(stack.supervisor.unwell())), refresh=True)
    sys.stdout.flush()
