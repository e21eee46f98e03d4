"""Each made file: its path, and its text as the sources say now."""

import json
from pathlib import Path

import yaml

from tools.documents import ROOT
from tools.monitoring import operations, telemetry

DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
PROMETHEUS_RULE = ROOT / "k8s" / "components" / "monitoring" / "alerts.yaml"


def files() -> dict[Path, str]:
    """Path -> text of each made file; a test compares them with what is checked in."""
    dashboards = {"operations.json": operations.made(), "telemetry.json": telemetry.made()}
    texts = {DASHBOARDS / name: json.dumps(one, indent=1) + "\n" for name, one in dashboards.items()}
    return texts | {PROMETHEUS_RULE: prometheus_rule(RULES.read_text())}


def prometheus_rule(rules: str) -> str:
    """The rules of Prometheus, YAML in, as its operator takes them, YAML out."""
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "iot-stream"},
        "spec": yaml.safe_load(rules),
    }
    head = "# deploy/prometheus/alerts.yml as the operator takes it, made by `make docs`.\n"
    return head + yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)
