"""The generated tables of docs/, such as settings and metrics: `make docs` writes the tables, a test compares them."""

import ast
import inspect
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr

import app.gateways.gateway_metrics
import app.gateways.mqtt.metrics
import app.notify.metrics
import app.ops.about
import app.ops.certificates
import app.ops.metrics
import app.runtime.tracing.metrics
import app.sinks.sink_metrics
from app.cli.schemas.asyncapi import asyncapi
from app.cli.schemas.catalogue import CATALOGUE, json_schema
from app.core.alerts.lifecycle import diagram
from app.core.schema.schema import schema_of
from app.postgres import sqlstate
from app.runtime.ending.exit_codes import MEANINGS, ExitCode
from app.settings import Settings
from app.settings.names import OTHERS
from app.settings.process import METRICS_PORTS
from app.telemetry import Telemetry
from tools.command_page import command_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
METRICS: dict[str, ModuleType] = {
    "every program": app.ops.about,
    "certificates": app.ops.certificates,
    "worker": app.ops.metrics,
    "bridge": app.gateways.mqtt.metrics,
    "gateways": app.gateways.gateway_metrics,
    "notifier": app.notify.metrics,
    "sinks": app.sinks.sink_metrics,
    "tracing": app.runtime.tracing.metrics,
}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; rows have a cell for each of `head`, and a | in a cell is escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def settings_table() -> str:
    """A Markdown row for each setting: the variable, its default, its meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        choices = ", ".join(get_args(field.annotation)) if get_origin(field.annotation) is Literal else ""
        meaning = f"{field.description} ({choices})" if choices else str(field.description)
        rows.append((f"`IOT_{name.upper()}`", _default(field.default), meaning))
    return table(("name", "default", "meaning"), rows)


def others_table() -> str:
    """A Markdown row for each environment variable that is read outside the settings."""
    return table(("name", "default", "meaning"), ((f"`{name}`", *other) for name, other in OTHERS.items()))


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{json.dumps(value) if isinstance(value, bool | tuple) else value}`"


def metrics_table(program: str) -> str:
    """A Markdown row for each metric of one program, by its name on /metrics."""
    rows = []
    for metric in metrics_of(program):
        name = f"{metric._name}_total" if metric._type == "counter" else metric._name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append((f"`{name}`", str(metric._type), labels, metric._documentation))
    return table(("name", "type", "labels", "meaning"), rows)


def metrics_of(program: str) -> Iterator[MetricWrapperBase]:
    """The metrics of a program of METRICS, in the order of the source. Raises KeyError for another program."""
    yield from (value for value in vars(METRICS[program]).values() if isinstance(value, MetricWrapperBase))


def sqlstate_table() -> str:
    """A Markdown row for each known SQLSTATE: its meaning, its kind, the operator's action."""
    named = {**sqlstate.KNOWN, "other": sqlstate.UNKNOWN}
    rows = [(f"`{code}`", known.meaning, known.failure.value, known.advice or "") for code, known in named.items()]
    return table(("SQLSTATE", "meaning", "kind", "what an operator does"), rows)


def ports_table() -> str:
    """A Markdown row for each program that serves metrics."""
    rows = ((f"`iot-stream {name.replace('-', ' ')}`", str(port)) for name, port in METRICS_PORTS.items())
    return table(("program", "port"), rows)


def exit_codes_table() -> str:
    """A Markdown row for each exit code."""
    return table(("code", "meaning"), ((str(code.value), MEANINGS[code]) for code in ExitCode))


def stages_of_reasons() -> dict[str, set[str]]:
    """Reason -> the stages of its rejections, read from the calls in the source: f(Reason.X, Stage.Y, ...).

    Where a call names no stage, the called function names the stage.
    """
    found: dict[str, set[str]] = {}
    for path in (path for folder in ("core", "gateways", "sinks") for path in (ROOT / "app" / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            reasons = _members(call.args, "Reason")
            if reasons:
                inside = functions.get(call.func.id) if isinstance(call.func, ast.Name) else None
                stages = _members(call.args, "Stage") or _members(ast.walk(inside) if inside else (), "Stage")
                stages |= {"sink"} if any("sink_stage" in ast.unparse(one) for one in call.args) else set()
                found.setdefault(reasons.pop(), set()).update(stages)
    return found


def _members(nodes: Iterable[ast.AST], enum: str) -> set[str]:
    return {
        node.attr.lower()
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == enum
    }


def steps_of_the_path() -> list[str]:
    """The numbers of the steps in app/pipeline/pipeline.py, in order."""
    import app.pipeline.pipeline

    comments = (line.partition("  # ")[2] for line in inspect.getsource(app.pipeline.pipeline).splitlines())
    return sorted({words[0] for comment in comments if (words := comment.split()) and words[0][:1].isdigit()})


def filled(text: str) -> str:
    """`text` with every part between `<!-- begin NAME -->` and `<!-- end NAME -->` generated again.

    Raises ValueError for a part without its end.
    """
    parts = {
        "settings": settings_table(),
        "other variables": others_table(),
        "alert states": f"```mermaid\n{diagram()}\n```",
        "sqlstate": sqlstate_table(),
        "exit codes": exit_codes_table(),
        "ports": ports_table(),
        "commands": command_pages(),
        **{f"metrics {name}": metrics_table(name) for name in METRICS},
    }
    for name, content in parts.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, found, rest = text.partition(begin)
        if found:
            text = f"{before}{begin}{content}\n{rest[rest.index(end) :]}"
    return text


def schemas() -> dict[Path, str]:
    """The files of docs/schemas and their texts, for the columns of this project."""
    columns = schema_of(Telemetry)
    made = {name: json_schema(name, columns) for name in CATALOGUE}
    made["asyncapi"] = asyncapi(Settings.model_construct())  # the defaults, whatever the environment says
    return {DOCS / "schemas" / f"{name}.json": json.dumps(one, indent=2) + "\n" for name, one in made.items()}


if __name__ == "__main__":
    for path, text in schemas().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text()
        if (new := filled(text)) != text:
            path.write_text(new)
            print(f"rewritten: {path.relative_to(ROOT)}")
