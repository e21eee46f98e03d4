"""`iot-stream run`: `up` with a simulated fleet, and the screen of `top` with what happens."""

import asyncio
import threading
import time

import typer

from app.cli.options import Directory, Ingest, Sinks, on_a_terminal, quiet, say
from app.cli.stack.deployment import local_urls
from app.cli.stack.up import NoFleet, Wanted, join, prepare, ready_line, sinks_ready, ways_ready
from app.cli.status_line import StatusLine
from app.local.layout import Layout, default_root, parse_env
from app.local.screen.alerts import AlertListener
from app.local.screen.observer import Observer
from app.local.screen.screen import alert_line, plain
from app.local.session import StackSession, locked, stop_on_signals, supervisor_pid
from app.local.stack import Stack
from app.top.model.programs import plain_text
from app.top.notes import Notes

PERIOD = 2.0  # seconds between two lines without a screen
REFRESH = 1.0  # and two looks on a terminal
ALERT_CHARACTERS = 200  # that are shown of an alert


def run(no_fleet: NoFleet = False, ingest: Ingest = "", sinks: Sinks = "", directory: Directory = None) -> None:
    """Start everything and watch messages being received, stored, dead-lettered and alerted on. Ctrl-C stops it all.

    A terminal shows the screen of `iot-stream top`; ? lists its keys. A stack that runs already is shown and left
    running. Without a terminal: one line every 2 s.

    Example: iot-stream run
    """
    layout, log = Layout(directory or default_root()), StackLog()
    wanted = Wanted.of(no_fleet, ingest, sinks)
    if pid := supervisor_pid(layout):
        join(layout, pid, wanted)
        stopped = threading.Event()
        stop_on_signals(stopped)
        well = watch(Stack(layout, layout.remembered_ports(), say), stopped, log)
    else:
        prepare(layout, wanted)
        programs = ", ".join(("bridge", *wanted.ways, "worker", *(f"sink {sink}" for sink in wanted.sinks)))
        say(f"starting Kafka, PostgreSQL, Mosquitto, {programs}, notifier and a simulated fleet")
        well = True
        with locked(layout), StackSession(layout, log.add, log.line.meanwhile) as session:
            if session.wait_ready():
                log.line.clear()
                print(ready_line(layout), flush=True)
                well = watch(session.stack, session.stopped, log)
            say("stopping")
    if not well:
        raise typer.Exit(1)


class StackLog:
    """The supervisor's lines: kept for the screen, and printed while there is no screen."""

    def __init__(self) -> None:
        self.notes, self.on_screen, self.line = Notes(), False, StatusLine()

    def add(self, line: str) -> None:
        """Keep a line, which may come from any thread, and print it while there is no screen."""
        self.notes.add(f"{time.strftime('%H:%M:%S')}  {line}")
        if not self.on_screen:
            self.line.say(line)


def watch(stack: Stack, stopped: threading.Event, log: StackLog) -> bool:
    """Show the stack until stopped; False when the screen failed, whose reason is printed by then."""
    if on_a_terminal():
        return screen(stack, stopped, log)
    observer = Observer(stack.metrics_url)
    while not stopped.wait(PERIOD):
        print(plain(observer.look(stack.supervisor.unwell())), flush=True)
    return True


def screen(stack: Stack, stopped: threading.Event, log: StackLog) -> bool:
    """Show the stack on a terminal until stopped; False when the screen failed, whose reason is printed by then. The
    signals of the session stay in effect: they set `stopped`, and the screen ends.
    """
    from app.top.screen.app import TopApp
    from app.top.text.headline import Piece
    from app.top.watch import Watch

    quiet()
    settings, env = stack.settings(), parse_env(stack.layout.env.read_text())
    addresses = [
        Piece("kafka", env["KAFKA_BROKER"]),
        Piece("postgres", env["DATABASE_URL"].rpartition("@")[2]),
        Piece("mqtt", f"{env['MQTT_HOST']}:{env['MQTT_PORT']}"),
        *(Piece(name, where) for name, where in [*ways_ready(env), *sinks_ready(env)]),
    ]
    log.notes.add(ready_line(stack.layout))

    def warnings() -> list[str]:
        unwell = stack.supervisor.unwell()
        return [f"not running, being started again: {', '.join(unwell)}"] if unwell else []

    async def show() -> int:
        async with Watch(local_urls(stack.layout), settings, settings) as looking:
            app = TopApp(
                looking, REFRESH, title=[Piece("", "iot-stream run"), *addresses], notes=log.notes, warnings=warnings,
                stopped=stopped,
            )  # fmt: skip
            await app.run_async()
        return app.return_code or 0

    with AlertListener(stack.mosquitto, lambda alert: log.add(plain_text(alert_line(alert), ALERT_CHARACTERS))):
        log.on_screen = True
        try:
            return asyncio.run(show()) == 0
        finally:
            log.on_screen = False
