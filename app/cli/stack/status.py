"""`iot-stream status`: each process of the stack, and whether the process is well."""

import json
from typing import Annotated

import typer

from app.cli.options import Directory
from app.local.health import Processes, look
from app.local.layout import Layout, default_root
from app.local.session import supervisor_pid


def status(
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
    directory: Directory = None,
) -> None:
    """Show each process with its pid, uptime, restarts and health. Exit code 0: all well, 1: not.

    Example: iot-stream status --json
    """
    layout = Layout(directory or default_root())
    processes = look(layout) if layout.ports.exists() else {}
    healthy = bool(processes) and all(one["healthy"] for one in processes.values())
    if as_json:
        print(json.dumps({"healthy": healthy, "supervisor": supervisor_pid(layout), "processes": processes}))
    else:
        show(processes)
    if not healthy:
        raise typer.Exit(1)


def show(processes: Processes) -> None:
    """Print a table for a person."""
    from rich.text import Text

    from app.cli.render.table import print_table

    if not processes:
        print("nothing was ever started here; see `iot-stream up --help`")
        return
    rows = []
    for name, one in processes.items():
        health = "ok" if one["healthy"] else "not ready" if one["pid"] else "not running"
        state = Text(health, "green" if one["healthy"] else "red")
        rows.append((name, str(one["pid"] or "-"), f"{one['uptime_seconds']} s", str(one["restarts"]), state))
    print_table(("process", "pid", "uptime", "restarts", "health"), rows)
