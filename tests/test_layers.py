"""What may import what in app/: a line of LAYERS imports only lines below its own, asked of the source."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

APP = Path(__file__).parents[1] / "app"

# Top to bottom. Packages of one line are neighbours, which never import one another.
LAYERS = """
cli
worker
ops
stream
history
doctor top inspect deadletters local notify gateways tables sinks loadtest client
postgres kafka mqtt
settings pipeline backtest
ports telemetry
core runtime
errors protobuf
"""
CORE_LAYERS = """
sweeper
processing
presence
alerts
state user_config
sampling
decode rules
routing schema deadletters batch delivery ingress
model
"""
# What the table allows and must not be all the same: whoever imports -> what.
NEVER = {
    "pipeline": ("kafka", "postgres", "mqtt", "stream", "ops", "settings", "runtime", "telemetry"),
    "core": ("runtime",),
    "stream": ("postgres", "mqtt"),
    "tables": ("postgres", "mqtt"),
    "postgres": ("kafka", "mqtt"),
    "mqtt": ("kafka", "postgres"),
    "gateways": ("postgres", "pipeline", "backtest"),
    "sinks": ("postgres", "mqtt", "pipeline", "backtest"),
    "worker": ("local", "backtest", "doctor"),
}
# Kinds of them; all else in the folder is shared.
KINDS_OF = {
    "gateways": ("mqtt", "http", "tcp", "grpc", "quic"),
    "sinks": ("parquet", "influx", "redis", "feed", "grpc_push"),
}
# Of these only the command line may import anything.
ENTRY_POINTS = ("local", "doctor", "top", "inspect", "deadletters", "history")


def _rank(table: str) -> dict[str, int]:
    return {name: line for line, names in enumerate(table.split("\n")) for name in names.split()}


RANK, CORE_RANK = _rank(LAYERS), _rank(CORE_LAYERS)


def imports(source: str, known: Mapping[str, str]) -> Iterator[str]:
    """Modules of `app` that a source imports, wherever in the file; a package stands for its __init__."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "app":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


def violations(sources: Mapping[str, str]) -> list[str]:
    """Module -> source in; out, each import that goes up, sideways or where it never may, with both modules named."""
    return [
        f"{module} imports {target}: {wrong}"
        for module, source in sorted(sources.items())
        for target in sorted(set(imports(source, sources)))
        if (wrong := _wrong(module.split(".")[1:], target.split(".")[1:]))
    ]


def _wrong(module: list[str], target: list[str]) -> str | None:
    if not module or module == ["__main__"]:
        return None  # the package's face hands on the worker and the command line
    if not target:
        return "app itself builds the worker"
    mine, other = module[0], target[0]
    if mine == other == "core" and len(module) > 1 and len(target) > 1 and module[1] != target[1]:
        return None if CORE_RANK[module[1]] < CORE_RANK[target[1]] else "inside the core, upward or sideways"
    if mine == other in KINDS_OF and target[1:2] and target[1] in KINDS_OF[mine] and module[1:2] != target[1:2]:
        return f"what {mine} share imports no kind of them, and no kind another"
    if mine == other:
        return None
    if RANK[mine] >= RANK[other]:
        return "upward or sideways"
    if other in NEVER.get(mine, ()) or (other in ENTRY_POINTS and mine != "cli"):
        return "never"
    return None


def circles(sources: Mapping[str, str]) -> list[list[str]]:
    """Rings of modules that import one another, each from its first by name."""
    edges = {module: sorted(set(imports(source, sources)) - {module}) for module, source in sources.items()}
    found: list[list[str]] = []
    state: dict[str, int] = {}

    def visit(module: str, path: list[str]) -> None:
        state[module] = 1
        for target in edges.get(module, ()):
            if state.get(target) == 1:
                found.append(path[path.index(target) :] if target in path else [target])
            elif target not in state:
                visit(target, [*path, target])
        state[module] = 2

    for module in sorted(edges):
        if module not in state:
            visit(module, [module])
    return found


def _sources() -> dict[str, str]:
    return {_name(path): path.read_text() for path in sorted(APP.rglob("*.py"))}


def _name(path: Path) -> str:
    return ".".join(("app", *path.relative_to(APP).with_suffix("").parts)).removesuffix(".__init__")


def test_imports_go_downward() -> None:
    assert violations(_sources()) == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circles(_sources()) == []


def test_every_package_has_a_line_in_the_table() -> None:
    packages = {path.stem for path in APP.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert packages - {"__pycache__", "__init__", "__main__"} - set(RANK) == set()
    parts = {path.name for path in (APP / "core").iterdir() if path.is_dir()}
    assert parts - {"__pycache__"} - set(CORE_RANK) == set()


@pytest.mark.parametrize(
    ("module", "source", "target"),
    [
        ("app.kafka.topics", "from app.worker import watchdog", "app.worker.watchdog"),  # upward
        ("app.kafka.topics", "def late():\n    from app.postgres.connect import connect", "app.postgres.connect"),
        ("app.notify.notifier", "import app.gateways.mqtt.inbox", "app.gateways.mqtt.inbox"),  # sideways
        ("app.core.decode.decoder", "from app.core.alerts.evaluate import evaluate", "app.core.alerts.evaluate"),
        ("app.core.decode.decoder", "from app.core.rules import rule", "app.core.rules.rule"),
        ("app.core.model.records", "from app.runtime import tls", "app.runtime.tls"),
        ("app.gateways.writer", "from app.gateways.mqtt import packets", "app.gateways.mqtt.packets"),
        ("app.gateways.http.server", "from app.gateways.mqtt import packets", "app.gateways.mqtt.packets"),
        ("app.sinks.router", "from app.sinks.redis import sink", "app.sinks.redis.sink"),
        ("app.sinks.influx.sink", "from app.sinks.redis.sink import RedisSink", "app.sinks.redis.sink"),
        ("app.sinks.port", "from app.gateways.writer import KafkaWriter", "app.gateways.writer"),
        ("app.pipeline.pipeline", "from app.runtime.retry import delay", "app.runtime.retry"),  # never
        ("app.worker.bootstrap", "from app.local.layout import Layout", "app.local.layout"),
        ("app.stream.transport", "from app.postgres import connect", "app.postgres.connect"),
    ],
)
def test_a_wrong_import_is_found_and_both_modules_are_named(module: str, source: str, target: str) -> None:
    (found,) = violations({module: source, target: ""})
    assert found.startswith(f"{module} imports {target}: ")


@pytest.mark.parametrize(
    ("module", "source", "target"),
    [
        ("app.cli.stack.doctor", "from app.doctor.examine import examine", "app.doctor.examine"),
        ("app.stream.transport", "from app.kafka.access import Access", "app.kafka.access"),
        ("app.gateways.mqtt.bridge", "from app.gateways.mqtt.inbox import Inbox", "app.gateways.mqtt.inbox"),
        ("app.gateways.http.server", "from app.gateways.payloads.look import look", "app.gateways.payloads.look"),
        ("app.sinks.redis.sink", "from app.sinks.port import Flushed", "app.sinks.port"),
        ("app.core.alerts.evaluate", "from app.core.rules.rule import Rule", "app.core.rules.rule"),
        ("app.core.decode.decoder", "from app.core.decode.fields import Known", "app.core.decode.fields"),
    ],
)
def test_a_right_import_is_not(module: str, source: str, target: str) -> None:
    assert violations({module: source, target: ""}) == []


def test_a_circle_is_found() -> None:
    ring = {
        "app.core.a": "import app.core.b",
        "app.core.b": "from app.core import c",
        "app.core.c": "import app.core.a",
    }
    assert circles(ring) == [["app.core.a", "app.core.b", "app.core.c"]]
    assert circles({"app.core.a": "import app.core.b", "app.core.b": ""}) == []
