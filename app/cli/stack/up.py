"""`iot-stream up`: the whole stack, in the foreground or with a supervisor left in the background."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import Annotated, NamedTuple, TextIO

import typer

from app.cli.options import Directory, Ingest, Sinks, say, ways_in, ways_out
from app.cli.status_line import StatusLine
from app.errors import MachineError, PermanentError
from app.local.health import wait_until_well
from app.local.layout import Layout, default_root, parse_env
from app.local.session import StackSession, locked, log_of_detached, supervisor_pid
from app.local.sinks.sinks import refuse_without_receiver
from app.local.stack import Stack
from app.local.started_with import differences, record
from app.local.waits import wait_for
from app.runtime.ending.exit_codes import ExitCode
from app.settings import load

LONGEST_START = 300.0  # seconds; the first start of a fresh machine installs and downloads

NoFleet = Annotated[bool, typer.Option("--no-fleet", help="Without the simulated devices.")]


class Wanted(NamedTuple):
    """What to start beside the programs that always run."""

    fleet: bool
    ways: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()

    @classmethod
    def of(cls, no_fleet: bool, ingest: str, sinks: str) -> "Wanted":
        """From the values of the options. Raises BadParameter for an unknown name, SettingsError for a sink that has
        nothing to write to.
        """
        wanted = cls(not no_fleet, ways_in(ingest), ways_out(sinks))
        if wanted.sinks:
            refuse_without_receiver(wanted.sinks, load())
        return wanted

    def words(self) -> list[str]:
        """The options of `iot-stream up` that say the same."""
        fleet = [] if self.fleet else ["--no-fleet"]
        ways = ["--ingest", ",".join(self.ways)] if self.ways else []
        return fleet + ways + (["--sinks", ",".join(self.sinks)] if self.sinks else [])

    def ask(self, layout: Layout) -> None:
        """Leave word of it in the stack's directory."""
        layout.want_ways(self.ways)
        layout.want_sinks(self.sinks)
        if self.fleet:
            layout.fleet_wanted.touch()


def up(
    no_fleet: NoFleet = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave a supervisor in the background.")] = False,
    ingest: Ingest = "",
    sinks: Sinks = "",
    directory: Directory = None,
) -> None:
    """Start Kafka, PostgreSQL, Mosquitto, bridge, worker, notifier and a simulated fleet; print `ready` and addresses.

    `ready` means that each of them is; else the exit code is 1, and the reason is printed. On a running stack only what
    is missing is started. Addresses are in .local/stack.env, logs in .local/log. --ingest starts more ways in than
    MQTT (docs/gateways.md), --sinks more ways out than the database, and the Redis and InfluxDB that they write to
    unless IOT_REDIS_URL and IOT_INFLUX_URL name others (docs/sinks.md); each is a program of its own.

    Example: iot-stream up --no-fleet --detach --ingest http,grpc --sinks parquet,redis && set -a && . .local/stack.env
    """
    layout = Layout(directory or default_root())
    wanted = Wanted.of(no_fleet, ingest, sinks)
    if pid := supervisor_pid(layout):
        join(layout, pid, wanted)
    elif detach:
        start_in_background(layout, wanted)
    else:
        prepare(layout, wanted)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # another `up` that finds us before we take it would end us
        line = StatusLine()
        with locked(layout), StackSession(layout, line.say, line.meanwhile) as session:
            if session.wait_ready():
                line.clear()
                print(ready_line(layout), flush=True)
            session.stopped.wait()
            line.say("stopping")


def prepare(layout: Layout, wanted: Wanted) -> None:
    """Before a start: forget that a stack was ready, and remember what is `wanted`, and the settings."""
    layout.root.mkdir(parents=True, exist_ok=True)
    for path in (layout.env, *layout.wishes):
        path.unlink(missing_ok=True)
    record(layout.started_with, load())
    wanted.ask(layout)


def join(layout: Layout, pid: int, wanted: Wanted) -> None:
    """Have the supervisor `pid` of this directory start what is missing, and print `ready` when the stack is. Raises
    PermanentError when the stack is not ready within LONGEST_START, TransientError when a process is not well.
    """
    for one in unlike(layout, wanted):
        say(one)
    wanted.ask(layout)
    os.kill(pid, signal.SIGUSR1)
    line = StatusLine()
    there = wait_for(layout.env.exists, LONGEST_START, partial(line.waiting, f"process {pid}, which starts the stack"))
    line.clear()
    if not there:
        raise PermanentError(f"the supervisor (process {pid}) does not get ready; see {layout.root}/log")
    get_well(layout, line)


def unlike(layout: Layout, wanted: Wanted) -> list[str]:
    """A line for each way in which the stack that runs here is another than the one that is asked for."""
    own = Stack(layout, layout.remembered_ports(), say).own_settings()
    lines = differences(layout.started_with, load(), own)
    if not wanted.fleet and layout.fleet_wanted.exists():
        lines.append("the simulated devices run, and --no-fleet does not stop them")
    return [f"the stack that runs is another: {line}; to change that: iot-stream down, then up" for line in lines]


def start_in_background(layout: Layout, wanted: Wanted) -> None:
    """Start a supervisor in a session of its own; print `ready` and return when the stack is. Raises PermanentError
    when the stack does not start within LONGEST_START, MachineError when this machine refuses what it needs,
    TransientError when a process is not well.
    """
    prepare(layout, wanted)
    log = log_of_detached(layout)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "app", "up", "--dir", str(layout.root), *wanted.words()]
    with log.open("wb") as out:
        child = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    line = StatusLine()
    with log.open(errors="replace") as shown:
        wait_for(lambda: show_lines(shown, line) or layout.env.exists() or child.poll() is not None, LONGEST_START)
        show_lines(shown, line)
    line.clear()
    if child.poll() is not None or not layout.env.exists():
        refusal = MachineError if child.poll() == ExitCode.WRONG else PermanentError
        raise refusal(f"the stack did not start; the reason is above, and in {log}")
    get_well(layout, line)


def show_lines(log: TextIO, line: StatusLine) -> bool:
    """Show what a supervisor in the background has said since; False, so that a wait goes on."""
    begun = log.tell()
    while (said := log.readline()).endswith("\n"):
        (line.meanwhile if said.startswith("waiting for ") else line.say)(said.rstrip())
        begun = log.tell()
    log.seek(begun)  # half a line is read again
    return False


def get_well(layout: Layout, line: StatusLine) -> None:
    """Print `ready` once every process is well, and meanwhile which are not. Raises TransientError as wait_until_well
    does.
    """
    try:
        wait_until_well(layout, report=line.waiting)
    finally:
        line.clear()
    print(ready_line(layout), flush=True)


def ready_line(layout: Layout) -> str:
    """The line `ready` with the addresses that stack.env names; no secret."""
    env = parse_env(layout.env.read_text())
    database = env["DATABASE_URL"].rpartition("@")[2]
    return (
        f"ready  kafka {env['KAFKA_BROKER']}  postgres {database}  mqtt {env['MQTT_HOST']}:{env['MQTT_PORT']}"
        f"{''.join(f'  {name} {where}' for name, where in [*ways_ready(env), *sinks_ready(env)])}"
        f"  metrics {env['METRICS_URL']}/metrics  env {layout.env}"
    )


def ways_ready(env: Mapping[str, str]) -> list[tuple[str, str]]:
    """(gateway, address) of each gateway that stack.env names."""
    names = {"http": "HTTP_URL", "tcp": "TCP_ADDRESS", "grpc": "GRPC_SOCKET", "quic": "QUIC_ADDRESS"}
    return [(way, env[name]) for way, name in names.items() if name in env]


def sinks_ready(env: Mapping[str, str]) -> list[tuple[str, str]]:
    """(sink, where it writes to) of those that write to something of this stack; no secret."""
    names = {"parquet": "PARQUET_DIR", "influx": "INFLUX_URL", "redis": "REDIS_URL"}
    return [(f"sink {sink}", env[name].rpartition("@")[2]) for sink, name in names.items() if name in env]
