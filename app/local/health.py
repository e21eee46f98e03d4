"""Whether a stack is well: its directory in, the state of each process out; and a wait until all processes are well."""

import time
from collections.abc import Callable
from typing import Any

from app.errors import TransientError
from app.local.layout import Layout, sink_program
from app.local.session import log_of_detached, supervisor_pid
from app.local.stack import PROGRAMS, SERVERS, Stack
from app.local.start_progress import SECONDS

WELL_SECONDS = 60.0  # as long as a process gets to be ready after its start
LOOK_SECONDS = 0.2

Processes = dict[str, dict[str, Any]]


def look(layout: Layout) -> Processes:
    """What is known of each process that should run, by its name: `pid` (null: it does not run), `uptime_seconds`,
    `restarts`, and `healthy`, whether it does its job. Asks each server, which takes up to some seconds.
    """
    known = layout.read_json(layout.processes)
    stack = Stack(layout, layout.remembered_ports(), lambda _: None)
    running = stack.supervisor.adopt(stack.services)
    expected = [
        *SERVERS, *layout.sink_servers(), *PROGRAMS, *layout.ways(), *map(sink_program, layout.sinks()),
        *(["fleet"] if layout.fleet_wanted.exists() else []),
    ]  # fmt: skip
    return {
        name: {
            "pid": stack.services[name].process.pid if name in running else None,
            "uptime_seconds": round(time.time() - known[name]["created"]) if name in running else 0,
            "restarts": known.get(name, {}).get("restarts", 0),
            "healthy": name in running and stack.services[name].ready(),
        }
        for name in expected
    }


def wait_until_well(
    layout: Layout,
    seconds: float = WELL_SECONDS,
    report: Callable[[str, float], None] = lambda *_: None,
) -> None:
    """Return once every process is well; `seconds` bounds the wait, and `report` is called every 2 s with the names
    of those that are not, and the seconds so far. Raises TransientError that names the processes
    that are not, with the end of each one's log.

    The error is raised at once for a process that was started again meanwhile and ended again: such a process will not
    get well by itself. The supervisor has noticed its end by then, and has said how the process ended.
    """
    begun = said = time.monotonic()
    deadline, found = begun + seconds, look(layout)
    first = {name: one["pid"] for name, one in found.items()}
    anew: set[str] = set()
    while ill := [name for name, one in found.items() if not one["healthy"]]:
        anew |= {name for name, one in found.items() if one["pid"] not in (None, first.get(name))}
        known = layout.read_json(layout.processes)
        hopeless = [name for name in ill if found[name]["pid"] is None and name in anew and name not in known]
        if hopeless or time.monotonic() > deadline or supervisor_pid(layout) is None:
            raise TransientError(reason(layout, hopeless or ill, found))
        if (now := time.monotonic()) >= said + SECONDS:
            said = now
            report(", ".join(ill), now - begun)
        time.sleep(LOOK_SECONDS)
        found = look(layout)


def reason(layout: Layout, ill: list[str], found: Processes) -> str:
    """What is wrong with each process of `ill`, for a person: how it ended, and the last 8 lines of its log."""
    log = log_of_detached(layout)
    said = log.read_text(errors="replace").splitlines() if log.exists() else []
    parts = []
    for name in ill:
        what = "does not get ready" if found[name]["pid"] else "does not run"
        ends = [line for line in said if line.startswith((f"{name} ended", f"{name}: "))][-1:]
        text = layout.log(name).read_text(errors="replace") if layout.log(name).exists() else ""
        tail = "\n".join(text.splitlines()[-8:])
        parts.append("\n".join([f"{name} {what}", *ends, f"{layout.log(name)} says:", tail]))
    return "\n".join([*parts, "the rest runs on: `iot-stream status` shows the stack, `iot-stream down` stops it"])
