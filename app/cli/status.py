"""`iot-stream status`: each process of the stack, and whether it is well."""

import json
import time
from typing import Annotated, Any

import typer

from app.cli.up import Directory, say
from app.local.layout import Layout, default_root
from app.local.session import supervisor_pid
from app.local.stack import PROGRAMS, SERVERS, Stack


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


def look(layout: Layout) -> dict[str, dict[str, Any]]:
    """What is known of each process; one that should run and does not is there with pid null."""
    known = layout.read_json(layout.processes)
    stack = Stack(layout, layout.remembered_ports(), say)
    running = stack.supervisor.adopt(stack.services)
    expected = [*SERVERS, *PROGRAMS, *(["fleet"] if layout.fleet_wanted.exists() else [])]
    return {
        name: {
            "pid": stack.services[name].process.pid if name in running else None,
            "uptime_seconds": round(time.time() - known[name]["created"]) if name in running else 0,
            "restarts": known.get(name, {}).get("restarts", 0),
            "healthy": name in running and stack.services[name].ready(),
        }
        for name in expected
    }


def show(processes: dict[str, dict[str, Any]]) -> None:
    """A table for a person."""
    from rich.console import Console
    from rich.table import Table

    if not processes:
        print("nothing was ever started here; see `iot-stream up --help`")
        return
    table = Table("process", "pid", "uptime", "restarts", "health")
    for name, one in processes.items():
        health = "[green]ok" if one["healthy"] else "[red]not ready" if one["pid"] else "[red]not running"
        table.add_row(name, str(one["pid"] or "-"), f"{one['uptime_seconds']} s", str(one["restarts"]), health)
    Console().print(table)
