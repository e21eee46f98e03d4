"""The dashboards as they are checked in, and their queries as Grafana would send them."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import yaml

from tests.deploy import compose
from tools.documents import ROOT
from tools.monitoring.files import DASHBOARDS, RULES

NAMES = ("operations", "telemetry")
PROVISIONED = ROOT / "deploy" / "grafana" / "provisioning"

# Metrics of other programs: Prometheus itself and its alerts, the Python client, and Vector as docs/vector.md says.
OTHERS = {
    "up": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "severity"},
    "process_resident_memory_bytes": {"job", "instance"},
    "process_cpu_seconds_total": {"job", "instance"},
    "process_open_fds": {"job", "instance"},
    "process_max_fds": {"job", "instance"},
    "process_start_time_seconds": {"job", "instance"},
    "vector_component_received_events_total": {"component_id", "instance"},
    "vector_component_discarded_events_total": {"component_id", "intentional", "instance"},
}


class Target(NamedTuple):
    """A query of a panel; `where` names it in a test's id."""

    where: str
    source: str  # the variable of its data source
    target: dict[str, Any]


@cache
def dashboard(name: str) -> dict[str, Any]:
    """The file."""
    loaded: dict[str, Any] = json.loads((DASHBOARDS / f"{name}.json").read_text())
    return loaded


def panels(name: str) -> Iterator[dict[str, Any]]:
    """Every panel but the headings of rows, panels of folded rows too."""
    for panel in dashboard(name)["panels"]:
        yield from panel.get("panels", [])
        if panel["type"] != "row":
            yield panel


def targets(source: str) -> list[Target]:
    """Every query to one kind of data source."""
    return [
        Target(f"{name}: {panel['title']} {target['refId']}", source, target)
        for name in NAMES
        for panel in panels(name)
        for target in panel["targets"]
        if target["datasource"]["uid"] == f"${{{source}}}"
    ]


def queries() -> dict[str, str]:
    """Where a panel or a variable asks Prometheus -> PromQL, with all programs chosen."""
    asked = {one.where: one.target["expr"] for one in targets("prometheus")}
    for variable in dashboard("operations")["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), \w+\)", variable["definition"])
            assert found, "the one form that is used"
            asked[f"variable {variable['name']}"] = found[1]
    return {where: chosen(expr) for where, expr in asked.items()}


def chosen(expr: str) -> str:
    """PromQL with the variables put in: every job, every instance."""
    text = re.sub(r"\$(job|instance)\b", ".*", expr).replace("$__rate_interval", "1m")
    assert "$" not in text, expr
    return text


def rules() -> list[dict[str, Any]]:
    """Every rule of Prometheus, recording rules first."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The alerts that notify somebody."""
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> dict[str, set[str]]:
    """Series that a rule makes, with the labels that the rule sums by."""
    made: dict[str, set[str]] = {}
    for rule in rules():
        if "record" in rule:
            (kept, *_) = re.findall(r"by \(([^)]*)\)", rule["expr"])
            made[rule["record"]] = {label.strip() for label in kept.split(",")}
    return made


def known() -> dict[str, set[str]]:
    """Every series there is, with its labels."""
    return compose.exposed() | OTHERS | recorded()


SERIES = re.compile(
    r"\b((?:(?:instance|instance_le|reason|partition):\w+:\w+)|(?:iot|db|vector|process)_\w+|up|ALERTS)\b"
)


def series_of(expr: str) -> set[str]:
    """The series that PromQL names."""
    return set(SERIES.findall(re.sub(r'"[^"]*"', '""', expr)))


def labels_of(expr: str) -> set[str]:
    """The labels that it selects, sums or compares by."""
    text = re.sub(r'"[^"]*"', '""', expr)
    used = {label.strip() for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(",")}
    return used | set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", text))
