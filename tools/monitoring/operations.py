"""The dashboard of whoever runs the programs: is all well, do the books balance, and where the time goes."""

from tools.monitoring.edge_rows import BRIDGE, NOTIFIER, PROCESSES, TRACES
from tools.monitoring.gateway_rows import GATEWAYS
from tools.monitoring.panels import LOKI, POSTGRES, PROMETHEUS, TEMPO, Json, Row, dashboard
from tools.monitoring.sink_rows import SINKS
from tools.monitoring.worker_rows import BOOKS, DATABASE, DEVICES, NOW, PATH

PROGRAMS = "worker|bridge|notifier|vector|http|tcp|grpc|quic|ingest|sink-.+"  # jobs of Prometheus
# Where docs/operations.md is to be read; docs/operations.md says how to put another address here.
RUNBOOK = "https://docs.example.com/iot-stream/operations.md"


def made() -> Json:
    """The dashboard, as built-in types for JSON."""
    return dashboard(
        "iot-operations",
        "iot-stream: operations",
        "What an operator opens first. Every alert has its heading in the runbook, docs/operations.md.",
        [
            Row("Now", NOW),
            Row("The books: received = stored + duplicate + dead-lettered + dropped", BOOKS),
            Row("The path", PATH),
            Row("Database and Kafka", DATABASE),
            Row("Devices, rules, alerts", DEVICES),
            Row("Bridge and Vector", BRIDGE),
            Row("Gateways: HTTP, TCP, gRPC, QUIC", GATEWAYS),
            Row("Sinks: Parquet, InfluxDB, Redis, HTTP feed, gRPC", SINKS),
            Row("Notifier and webhook", NOTIFIER),
            Row("Traces and logs", TRACES),
            Row("Processes", PROCESSES),
        ],
        [
            *(source.variable for source in (PROMETHEUS, LOKI, TEMPO, POSTGRES)),
            _labels("job", f'label_values(up{{job=~"{PROGRAMS}"}}, job)'),
            _labels("instance", 'label_values(up{job=~"$job"}, instance)'),
        ],
        refresh="10s",
        time={"from": "now-1h", "to": "now"},
        links=[
            link("Runbook", f"{RUNBOOK}#on-each-alert", "What each alert means, where to look, what to do", new=True),
            link("Telemetry", "/d/iot-telemetry", "Readings, devices and open alerts, from the database"),
        ],
    )


def link(title: str, url: str, tooltip: str, new: bool = False) -> Json:
    """A link at the head of a dashboard; with `new` it opens a tab of its own, else it takes the time range along."""
    return {
        "type": "link", "title": title, "url": url, "tooltip": tooltip, "icon": "doc" if new else "dashboard",
        "targetBlank": new, "keepTime": not new, "includeVars": False, "asDropdown": False, "tags": [],
    }  # fmt: skip


def _labels(name: str, query: str) -> Json:
    """A variable with the values of a label; all of them unless somebody chooses."""
    return {
        "type": "query", "name": name, "label": name, "datasource": PROMETHEUS.reference, "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "variable"}, "refresh": 2, "sort": 1, "multi": True,
        "includeAll": True, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}, "options": [],
    }  # fmt: skip
