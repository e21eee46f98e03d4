"""Prometheus, Grafana and the collectors: they ask for series that exist, of servers that listen there."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.deploy import compose, vector
from tests.documents import ROOT

DEPLOY = ROOT / "deploy"
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "iot-stream.json").read_text())
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES} | {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
# Of others: Prometheus itself, the Python client, and Vector as docs/vector.md tells.
OTHERS = {
    "up": {"job", "instance"},
    "process_resident_memory_bytes": {"job", "instance"},
    "vector_component_received_events_total": {"component_id", "instance"},
    "vector_component_discarded_events_total": {"component_id", "intentional", "instance"},
}
LISTENS = {
    "worker": 9000, "notifier": 9000, "bridge": 9000, "redpanda": 9644, "otel-collector": 8888, "localhost": 9090,
    "prometheus": 9090, "loki": 3100, "tempo": 3200, "vector": int(vector.config()["sinks"]["metrics"]["address"][-4:]),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_series_exists_with_its_labels(name: str) -> None:
    known = compose.exposed() | OTHERS
    text = re.sub(r'"[^"]*"', '""', EXPRESSIONS[name])
    series = set(re.findall(r"\b((?:iot|db|vector|process)_\w+|up)\b", text))
    assert series
    assert series - set(known) == set()
    labels = set().union(*(known[one] for one in series)) | {"instance", "job"}
    used = {label.strip() for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(",")}
    used |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", text))
    assert used - labels == set()
    assert text.count("(") == text.count(")")


def test_alerts_say_what_to_do_and_their_labels_survive() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 10
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "warning")
        summary = rule["annotations"]["summary"]
        kept = {label.strip() for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(",")}
        named = set(re.findall(r"\$labels\.(\w+)", summary))
        assert not kept or named <= kept, rule["alert"]


WATCHED = [
    "db_circuit_breaker_state", "iot_operator_needed", "iot_kafka_write_held", "iot_offsets_missing_total",
    "iot_bridge_connected", "iot_consumer_lag", "iot_dead_letters_total", 'component_id="mqtt_in"',
]  # fmt: skip


def test_the_promises_have_alerts() -> None:
    text = "".join(EXPRESSIONS[rule["alert"]] for rule in RULES)
    assert [series for series in WATCHED if series not in text] == []


def test_prometheus_asks_where_something_listens() -> None:
    services = set(compose.services()) | {"localhost"}
    for job in PROMETHEUS["scrape_configs"]:
        found = [(name, entry["port"]) for entry in job.get("dns_sd_configs", []) for name in entry["names"]]
        found += [
            (target.split(":")[0], int(target.split(":")[1]))
            for entry in job.get("static_configs", [])
            for target in entry["targets"]
        ]
        assert found
        for host, port in found:
            assert host in services
            assert LISTENS[host] == port
    mounted = {volume.split(":")[1] for volume in compose.services()["prometheus"]["volumes"]}
    assert set(PROMETHEUS["rule_files"]) <= mounted


def test_grafana_finds_its_sources_and_dashboards() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "datasources.yml").read_text())["datasources"]
    for source in sources:
        host, port = source["url"].removeprefix("http://").split(":")
        assert LISTENS[host] == int(port)
        assert host in compose.services()
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} <= {source["uid"] for source in sources}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "dashboards.yml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in compose.services()["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted


def test_the_collector_is_wired() -> None:
    collector: dict[str, Any] = yaml.safe_load((DEPLOY / "otel" / "collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(collector[part])
    reader = collector["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"]
    assert reader["port"] == LISTENS["otel-collector"]
    tempo = yaml.safe_load((DEPLOY / "tempo" / "tempo.yaml").read_text())
    grpc = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert collector["exporters"]["otlp"]["endpoint"].split(":") == ["tempo", grpc.split(":")[1]]
    assert tempo["server"]["http_listen_port"] == LISTENS["tempo"]
    loki = yaml.safe_load((DEPLOY / "loki" / "loki.yaml").read_text())
    assert f"http://loki:{loki['server']['http_listen_port']}" in collector["exporters"]["otlphttp"]["endpoint"]
    logging = compose.services()["worker"]["logging"]
    forward = collector["receivers"]["fluentforward"]["endpoint"].split(":")[1]
    assert logging["options"]["fluentd-address"].split(":")[1] == forward
    assert f"127.0.0.1:{forward}:{forward}" in compose.services()["otel-collector"]["ports"]
