"""Prometheus, Alertmanager, Grafana and the collectors: rules that fire when they should, servers that listen there."""

import re
from pathlib import Path
from typing import Any

import yaml

from app.settings.process import METRICS_PORTS
from tests.deploy import compose, dashboards, programs, vector
from tests.test_docs import anchors
from tools.documents import DOCS, ROOT
from tools.monitoring.operations import RUNBOOK

DEPLOY = ROOT / "deploy"
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
RULES = dashboards.rules()
ALERTS = dashboards.alerts()
LISTENS = {
    **{name.replace("_", "-"): port for name, port in METRICS_PORTS.items()},
    "redpanda": 9644, "otel-collector": 8888, "localhost": 9090,
    "prometheus": 9090, "alertmanager": 9093, "timescaledb": 5432, "loki": 3100, "tempo": 3200,
    "vector": int(vector.config()["sinks"]["metrics"]["address"][-4:]),
}  # fmt: skip


def test_alerts_say_what_to_do_and_their_labels_survive() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS) > 30
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning")
        summary, runbook = rule["annotations"]["summary"], rule["annotations"]["runbook_url"]
        assert runbook == f"{RUNBOOK}#{rule['alert'].lower()}"
        assert rule["alert"].lower() in anchors(DOCS / "operations.md")
        kept = {label.strip() for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(",")}
        named = set(re.findall(r"\$labels\.(\w+)", summary))
        assert not kept or named <= kept, rule["alert"]


ALERT_TESTS = ROOT / "tests" / "deploy" / "alerts.test.yml"


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    reported = ALERT_TESTS.read_text()
    assert [rule["alert"] for rule in ALERTS if not re.search(rf"alertname[:=] ?\"?{rule['alert']}\b", reported)] == []
    done = programs.run("promtool", "test", "rules", ALERT_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    assert "/etc/prometheus/alerts.yml" in text
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/", f"{DEPLOY}/prometheus/"))
    done = programs.run("promtool", "check", "config", "--lint=all", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_the_autoscalers_queries_are_prometheus_queries(tmp_path: Path) -> None:
    """As recording rules, so that promtool can say what they give."""
    scaled = yaml.safe_load((ROOT / "k8s" / "components" / "autoscaling" / "scaledobject.yaml").read_text())
    triggers = {one["name"]: one["metadata"] for one in scaled["spec"]["triggers"] if one["type"] == "prometheus"}
    rules = [{"record": f"asked:{name}", "expr": trigger["query"]} for name, trigger in triggers.items()]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "keda", "rules": rules}]}))
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "30s", "tests": SCALING})
    )
    done = programs.run("promtool", "test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def scaling_case(name: str, slow: int, workers: int, **series: str) -> dict[str, Any]:
    """After ten minutes of these series the queries give these two numbers."""
    names = {
        "quick": 'iot_db_write_seconds_bucket{instance="w1", le="1"}',
        "all": 'iot_db_write_seconds_bucket{instance="w1", le="5"}',
        "infinite": 'iot_db_write_seconds_bucket{instance="w1", le="+Inf"}',
        "breaker": 'db_circuit_breaker_state{instance="w1"}',
        "w1": 'up{job="worker", instance="w1"}',
        "w2": 'up{job="worker", instance="w2"}',
        "bridge": 'up{job="bridge", instance="b1"}',
    }
    expected = {"asked:slow": slow, "asked:workers": workers}
    return {
        "name": name,
        "interval": "30s",
        "input_series": [{"series": names[key], "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {"expr": f"sum({record})", "eval_time": "10m", "exp_samples": [{"value": value}]}
            for record, value in expected.items()
        ],
    }


UP = {"w1": "1x30", "w2": "1x30", "bridge": "1x30"}
QUICK = {"quick": "0+100x30", "all": "0+100x30", "infinite": "0+100x30"}
SLOW = {"quick": "0+90x30", "all": "0+100x30", "infinite": "0+100x30"}
IDLE = {"quick": "5x30", "all": "5x30", "infinite": "5x30"}
SCALING = [
    scaling_case("a quick database", 0, 2, **UP, **QUICK, breaker="0x30"),
    scaling_case("one write in ten takes longer than a second", 1, 2, **UP, **SLOW, breaker="0x30"),
    scaling_case("nothing is written, breaker open", 1, 2, **UP, **IDLE, breaker="1x30"),
    scaling_case("both", 2, 2, **UP, **SLOW, breaker="0.5x30"),
    scaling_case("nothing comes", 0, 2, **UP, **IDLE, breaker="0x30"),
    scaling_case("one worker is away", 0, 1, **{**UP, "w2": "0x30"}, **QUICK, breaker="0x30"),
    scaling_case("Prometheus knows nothing", 0, 1, bridge="1x30"),
]


WATCHED = [
    "db_circuit_breaker_state", "iot_operator_needed", "iot_kafka_write_held", "iot_offsets_missing_total",
    "iot_rules_refused_total", "iot_alert_rows_refused_total", "iot_mass_silence", "iot_clock_skew_seconds",
    "iot_silence_suspended_partitions", "iot_notifier_waiting_seconds", "iot_notifier_delayed_total",
    "iot_notifier_held_total", "iot_notifier_left_out_total", "iot_webhook_refused_total", "iot_bridge_connected",
    "iot_consumer_lag", "iot_dead_letters_total", 'component_id="mqtt_in"',
]  # fmt: skip


def test_the_promises_have_alerts() -> None:
    text = "".join(rule["expr"] for rule in RULES)
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
    (sent,) = PROMETHEUS["alerting"]["alertmanagers"]
    assert sent == {"static_configs": [{"targets": [f"alertmanager:{LISTENS['alertmanager']}"]}]}


def test_grafana_finds_its_sources_and_dashboards() -> None:
    sources = yaml.safe_load((dashboards.PROVISIONED / "datasources" / "datasources.yml").read_text())["datasources"]
    for source in sources:
        host, port = source["url"].removeprefix("http://").split(":")
        assert LISTENS[host] == int(port)
        assert host in compose.services()
    (provider,) = yaml.safe_load((dashboards.PROVISIONED / "dashboards" / "dashboards.yml").read_text())["providers"]
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
    assert tempo["metrics_generator"]["storage"]["remote_write"][0]["url"] == "http://prometheus:9090/api/v1/write"
    assert "--web.enable-remote-write-receiver" in compose.services()["prometheus"]["command"]
    assert collector["exporters"]["otlp"]["endpoint"].split(":") == ["tempo", grpc.split(":")[1]]
    assert tempo["server"]["http_listen_port"] == LISTENS["tempo"]
    loki = yaml.safe_load((DEPLOY / "loki" / "loki.yaml").read_text())
    assert f"http://loki:{loki['server']['http_listen_port']}" in collector["exporters"]["otlphttp"]["endpoint"]
    logging = compose.services()["worker"]["logging"]
    forward = collector["receivers"]["fluentforward"]["endpoint"].split(":")[1]
    assert logging["options"]["fluentd-address"].split(":")[1] == forward
    assert f"127.0.0.1:{forward}:{forward}" in compose.services()["otel-collector"]["ports"]


def test_the_programs_send_their_traces_to_the_collector() -> None:
    """Over the protocol and to the port that it has; one variable switches it off."""
    collector = yaml.safe_load((DEPLOY / "otel" / "collector.yaml").read_text())
    protocols = collector["receivers"]["otlp"]["protocols"]
    for name in ("worker", "bridge", "notifier"):
        given = compose.services()[name]["environment"]
        assert given["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"
        port = protocols["grpc"]["endpoint"].split(":")[1]
        assert given["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://otel-collector:{port}"
        assert given["OTEL_SDK_DISABLED"] == "false"
    assert {"OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_ENDPOINT"} <= set(compose.variables())


def test_a_line_of_a_container_is_of_the_service_of_its_traces() -> None:
    """What the collector makes of Docker's tag: the name that Loki's queries and the traces have."""
    collector = (DEPLOY / "otel" / "collector.yaml").read_text()
    ((pattern, instead),) = re.findall(
        r'replace_pattern\(attributes\["service.name"\], "([^"]*)", "([^"]*)"\)', collector
    )
    assert compose.services()["worker"]["logging"]["options"]["tag"] == "{{.Name}}"
    project = compose.config()["name"]
    for name in ("worker", "bridge", "notifier"):
        assert re.sub(pattern.replace("$$", "$"), instead, f"{project}-{name}-12") == f"iot-stream-{name}"
