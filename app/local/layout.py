"""The files of one local stack, all below one directory (default .local)."""

import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.local.servers.common import free_port, port_is_free, write_private
from app.local.servers.process import ChildProcess
from app.settings.process import METRICS_PORTS

# Who may be asked for at a well-known address; the rest take a free port.
DEFAULT_PORTS = {
    "kafka": 9092, "postgres": 5432, "mosquitto": 1883,
    **METRICS_PORTS,
    "http in": 8088, "tcp in": 8089, "quic in": 5001,
    "redis": 6379, "influxdb": 8086,
}  # fmt: skip
OVER_UDP = ("quic in",)
WAYS = ("http", "tcp", "grpc", "quic")  # in, beside MQTT: each a gateway of that name
SINKS = ("parquet", "influx", "redis", "http_feed", "grpc")  # ways out: `iot-stream sink` of that name
SINK_SERVERS = ("redis", "influxdb")  # what some of them write to, where nobody has named another


def default_root() -> Path:
    """The absolute path of $IOT_LOCAL_DIR, else of .local in the current directory."""
    return Path(os.environ.get("IOT_LOCAL_DIR", ".local")).absolute()


class Layout:
    """Paths of a stack, and what is remembered in them."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.env = self.root / "stack.env"  # written when the stack is ready, removed when it stops
        self.pids = self.root / "pids.json"
        self.processes = self.root / "processes.json"  # pids with their start times, to know them again
        self.ports = self.root / "ports.json"
        self.lock = self.root / "supervisor.lock"
        self.hold = self.root / "worker.hold"  # locked by a command while the worker must not run
        self.started_with = self.root / "settings.json"  # the settings of the start, for a later `up`
        self.fleet_lock = self.root / "fleet.lock"  # locked by the simulated devices that send over MQTT
        self.fleets_lock = self.root / "fleets.lock"  # locked, shared, by all that send for the simulated devices
        self.fleet_wanted = self.root / "fleet.wanted"
        self.ways_wanted = self.root / "ways.wanted"
        self.sinks_wanted = self.root / "sinks.wanted"
        self.sink_servers_wanted = self.root / "sink-servers.wanted"

    def log(self, name: str) -> Path:
        """Path of the log file of one process."""
        return self.root / "log" / f"{name}.log"

    def write_env(self, values: Mapping[str, str], plain: Mapping[str, str] | None = None) -> None:
        """Write stack.env (mode 0600): each name of `values` plain and with the IOT_ prefix the settings have; `plain`
        are names of no setting.
        """
        write_private(self.env, render_env(values) + render_plain(plain or {}))

    def ways(self) -> tuple[str, ...]:
        """The gateways of WAYS that were asked for since the start, in the order of WAYS."""
        return _named(self.ways_wanted, WAYS)

    def want_ways(self, names: Iterable[str]) -> None:
        """Ask for the gateways `names`, too; names that are not in WAYS are left out."""
        _name(self.ways_wanted, WAYS, names)

    def sinks(self) -> tuple[str, ...]:
        """Those of SINKS that somebody has asked for since the start, in the order of SINKS."""
        return _named(self.sinks_wanted, SINKS)

    def want_sinks(self, names: Iterable[str]) -> None:
        """Ask for the sinks `names`, too; names that are not in SINKS are left out."""
        _name(self.sinks_wanted, SINKS, names)

    def sink_servers(self) -> tuple[str, ...]:
        """Those of SINK_SERVERS that the sinks of this stack write to."""
        return _named(self.sink_servers_wanted, SINK_SERVERS)

    def want_sink_servers(self, names: Iterable[str]) -> None:
        """Remember that the sinks want the servers `names`, too."""
        _name(self.sink_servers_wanted, SINK_SERVERS, names)

    def write_pids(self, pids: Mapping[str, int]) -> None:
        """Write pids.json: name -> pid of what runs."""
        write_private(self.pids, json.dumps(dict(pids), indent=1) + "\n")

    def read_json(self, path: Path) -> dict[str, Any]:
        """The JSON object in the file `path`; empty when the file is missing or cannot be read."""
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def forget(self) -> None:
        """Remove what only holds while the stack runs."""
        for path in (self.env, self.pids, self.processes, *self.wishes):
            path.unlink(missing_ok=True)

    @property
    def wishes(self) -> tuple[Path, ...]:
        """The files that say what was asked for beside the programs that always run."""
        return self.fleet_wanted, self.ways_wanted, self.sinks_wanted, self.sink_servers_wanted

    def choose_ports(
        self, claim: Callable[[int], bool] = lambda port: True, is_free: Callable[[int, int], bool] = port_is_free
    ) -> dict[str, int]:
        """A port for each name of DEFAULT_PORTS, and remember them: the port of last time, else the default, else a
        free one. What still runs keeps its own. `claim` is false for a port of another stack, also while nothing
        listens there; `is_free` for a port and a kind of socket where something does. Raises TransientError when no
        port is free.
        """
        remembered, running = self.read_json(self.ports), self.left_running()
        ports: dict[str, int] = {}
        for name, default in DEFAULT_PORTS.items():
            kind = socket.SOCK_DGRAM if name in OVER_UDP else socket.SOCK_STREAM
            runs = name.split()[0] in running
            ports[name] = choose_port(remembered.get(name), default, runs, set(ports.values()), kind, claim, is_free)
        write_private(self.ports, json.dumps(ports) + "\n")
        return ports

    def remembered_ports(self) -> dict[str, int]:
        """The ports of the last start by name; the default for a name that had none."""
        return DEFAULT_PORTS | self.read_json(self.ports)

    def left_running(self) -> set[str]:
        """The names of the processes of processes.json that run, with a supervisor or without."""
        known = self.read_json(self.processes)
        probe = ChildProcess("probe", [], self.log("probe"))
        return {name for name, entry in known.items() if probe.adopt(int(entry["pid"]), float(entry["created"]))}


def sink_program(sink: str) -> str:
    """The name of the process of one of SINKS: a gateway may be called as the sink is."""
    return f"sink-{sink}"


def _named(path: Path, among: Sequence[str]) -> tuple[str, ...]:
    """The names in a file, in the order of `among`; none where there is no file."""
    named = path.read_text().split() if path.exists() else []
    return tuple(name for name in among if name in named)


def _name(path: Path, among: Sequence[str], names: Iterable[str]) -> None:
    """Add `names` to those in a file, as far as they are in `among`."""
    asked = {*_named(path, among), *names}
    write_private(path, "".join(f"{name}\n" for name in among if name in asked))


def choose_port(
    remembered: int | None,
    default: int,
    running: bool,
    taken: set[int],
    kind: int = socket.SOCK_STREAM,
    claim: Callable[[int], bool] = lambda port: True,
    is_free: Callable[[int, int], bool] = port_is_free,
) -> int:
    """The port of one server: its own while it is `running`, else the first free port of `remembered` (None: no port
    was) and `default`, else any. `taken` are ports given to other servers in this round, which do not listen yet;
    `kind` of socket: SOCK_DGRAM for UDP; `claim` and `is_free` as in choose_ports. Raises TransientError when no port
    is free.
    """
    if running and remembered:
        claim(remembered)
        return remembered
    for port in (remembered, default):
        if port and port not in taken and is_free(port, kind) and claim(port):
            return port
    free = free_port(kind=kind)
    while free in taken or not claim(free):
        free = free_port(kind=kind)
    return free


def render_env(values: Mapping[str, str]) -> str:
    """KEY=value lines, then the same as IOT_KEY. Values that a shell would take apart stand in single quotes."""
    return render_plain(values) + render_plain({f"IOT_{name}": value for name, value in values.items()})


def render_plain(values: Mapping[str, str]) -> str:
    """KEY=value lines alone, without IOT_. Values that a shell would take apart stand in single quotes."""
    return "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())


def _quoted(value: str) -> str:
    plain = value.replace("-", "").replace("_", "").replace(".", "").replace("/", "").replace(":", "").replace("@", "")
    return value if plain.isalnum() else "'" + value.replace("'", "'\\''") + "'"


def parse_env(text: str) -> dict[str, str]:
    """{name: value} of what `render_env` wrote, without the quotes."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value.removeprefix("'").removesuffix("'").replace("'\\''", "'") for name, _, value in pairs}
