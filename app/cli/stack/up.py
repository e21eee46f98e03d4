"""`iot-stream up`: the whole stack, in the foreground or with a supervisor left in the background."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from app.cli.options import Directory, Ingest, say, ways_in
from app.errors import PermanentError
from app.local.health import wait_until_well
from app.local.layout import Layout, default_root, parse_env
from app.local.session import StackSession, locked, log_of_detached, supervisor_pid, wait_for

LONGEST_START = 300.0  # seconds; the first start of a fresh machine installs and downloads

NoFleet = Annotated[bool, typer.Option("--no-fleet", help="Without the simulated devices.")]


def up(
    no_fleet: NoFleet = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave a supervisor in the background.")] = False,
    ingest: Ingest = "",
    directory: Directory = None,
) -> None:
    """Start Kafka, PostgreSQL, Mosquitto, bridge, worker, notifier and a simulated fleet; print `ready` and addresses.

    `ready` means that each of them is; else the exit code is 1, and the reason is printed. On a running stack only what
    is missing is started. Addresses are in .local/stack.env, logs in .local/log. --ingest starts more ways in than
    MQTT, each a program of its own: docs/gateways.md.

    Example: iot-stream up --no-fleet --detach --ingest http,grpc && set -a && . .local/stack.env
    """
    layout, ways = Layout(directory or default_root()), ways_in(ingest)
    if pid := supervisor_pid(layout):
        join(layout, pid, no_fleet, ways)
    elif detach:
        start_in_background(layout, no_fleet, ways)
    else:
        prepare(layout, no_fleet, ways)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # another `up` that finds us before we take it would end us
        with locked(layout), StackSession(layout, say) as session:
            if session.wait_ready():
                print(ready_line(layout), flush=True)
            session.stopped.wait()
            say("stopping")


def prepare(layout: Layout, no_fleet: bool, ways: Sequence[str] = ()) -> None:
    """Before a start: forget that a stack was ready, remember whether a fleet is wanted, and which gateways
    (`ways`).
    """
    layout.root.mkdir(parents=True, exist_ok=True)
    for path in (layout.env, layout.fleet_wanted, layout.ways_wanted):
        path.unlink(missing_ok=True)
    layout.want_ways(ways)
    if not no_fleet:
        layout.fleet_wanted.touch()


def join(layout: Layout, pid: int, no_fleet: bool, ways: Sequence[str] = ()) -> None:
    """Have the supervisor `pid` of this directory start what is missing, and print `ready` when the stack is. Raises
    PermanentError when the stack is not ready within LONGEST_START, TransientError when a process is not well.
    """
    layout.want_ways(ways)
    if not no_fleet:
        layout.fleet_wanted.touch()
    os.kill(pid, signal.SIGUSR1)
    if not wait_for(layout.env.exists, LONGEST_START):
        raise PermanentError(f"the supervisor (process {pid}) does not get ready; see {layout.root}/log")
    wait_until_well(layout)
    print(ready_line(layout), flush=True)


def start_in_background(layout: Layout, no_fleet: bool, ways: Sequence[str] = ()) -> None:
    """Start a supervisor in a session of its own; print `ready` and return when the stack is. Raises PermanentError
    when the stack does not start within LONGEST_START, TransientError when a process is not well.
    """
    prepare(layout, no_fleet, ways)
    log = log_of_detached(layout)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "app", "up", "--dir", str(layout.root), *(["--no-fleet"] if no_fleet else [])]
    command += ["--ingest", ",".join(ways)] if ways else []
    with log.open("wb") as out:
        child = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    wait_for(lambda: layout.env.exists() or child.poll() is not None, LONGEST_START)
    if child.poll() is not None or not layout.env.exists():
        raise PermanentError(f"the stack did not start; {log} says:\n{log.read_text(errors='replace').strip()}")
    wait_until_well(layout)
    print(ready_line(layout), flush=True)


def ready_line(layout: Layout) -> str:
    """The line `ready` with the addresses that stack.env names; no secret."""
    env = parse_env(layout.env.read_text())
    database = env["DATABASE_URL"].rpartition("@")[2]
    return (
        f"ready  kafka {env['KAFKA_BROKER']}  postgres {database}  mqtt {env['MQTT_HOST']}:{env['MQTT_PORT']}"
        f"{''.join(f'  {way} {address}' for way, address in ways_ready(env))}"
        f"  metrics {env['METRICS_URL']}/metrics  env {layout.env}"
    )


def ways_ready(env: Mapping[str, str]) -> list[tuple[str, str]]:
    """(gateway, address) of each gateway that stack.env names."""
    names = {"http": "HTTP_URL", "tcp": "TCP_ADDRESS", "grpc": "GRPC_SOCKET", "quic": "QUIC_ADDRESS"}
    return [(way, env[name]) for way, name in names.items() if name in env]
