"""vector.toml as a whole: its own tests, its limits against the topic's and the broker's, its health check."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from app.core.model.records import Kind
from app.core.routing.mqtt_topics import is_own_output, route
from app.kafka.topics import wanted
from app.settings import Settings
from tests.deploy import vector
from tools.documents import ROOT

CONFIG = vector.config()
SOURCE, SINK = CONFIG["sources"]["mqtt_in"], CONFIG["sinks"]["kafka_out"]
HEARTBEAT = "$SYS/brokers/+/uptime"
OPTIONS = SINK["librdkafka_options"]


@pytest.mark.parametrize("case", CONFIG["tests"], ids=lambda case: str(case["name"]))
def test_its_own_tests(case: dict[str, Any]) -> None:
    (given,) = case["inputs"]
    if case.get("no_outputs_from"):
        assert not passes(given["source"]), case["name"]
        return
    (wanted_,) = case["outputs"]
    assert wanted_["extract_from"] == given["insert_at"] == "record"
    checks = "\n".join(condition["source"] for condition in wanted_["conditions"])
    assert checks
    program = CONFIG["transforms"]["record"]["source"]
    vector.run(f"{given['source']}\n{program}\n{checks}\n.message = null\n.", {})  # a failed assertion raises
    with pytest.raises(RuntimeError, match="assertion failed"):
        vector.run(f"{given['source']}\n{program}\nassert_eq!(.kafka_key, 0)\n.message = null\n.", {})


def passes(source: str) -> bool:
    """Whether the filter lets an event through."""
    event = vector.run(f"{source}\n.passes = ({CONFIG['transforms']['messages']['condition']})\n.", {})
    return bool(event["passes"])


def test_only_the_heartbeat_is_filtered() -> None:
    for topic in ("users/u1/devices/d1/telemetry", "iot/n1/status", "", "SYS/x"):
        assert passes(f'.topic = "{topic}"\n.message = "x"')
    assert CONFIG["transforms"]["messages"]["inputs"] == ["mqtt_in"]
    assert CONFIG["transforms"]["record"]["inputs"] == ["messages"]
    assert SINK["inputs"] == ["record"]


def test_it_means_the_same_with_interpolation_on() -> None:
    assert "$" not in vector.FILE.read_text()
    assert HEARTBEAT in SOURCE["topic"]


def test_it_subscribes_to_every_kind_and_to_nothing_of_ours() -> None:
    filters = [topic for topic in SOURCE["topic"] if topic != HEARTBEAT]
    kinds = {route(pattern.replace("+", "x")).kind for pattern in filters}
    assert kinds == set(Kind) - {Kind.UNKNOWN, Kind.SILENCE}
    own = ["users/x/alerts", "users/x/alerts/errors", "users/x/config/errors"]
    assert all(is_own_output(topic) for topic in own)
    assert [(topic, pattern) for topic in own for pattern in filters if matches(pattern, topic)] == []


def matches(pattern: str, topic: str) -> bool:
    """MQTT's matching of a filter without `#`."""
    filters, levels = pattern.split("/"), topic.split("/")
    return len(filters) == len(levels) and all(f in ("+", level) for f, level in zip(filters, levels, strict=True))


def test_the_broker_lets_it_subscribe_to_them() -> None:
    sql = (ROOT / "init.sql").read_text()
    granted = [line.split("'") for line in sql.splitlines() if f"('{SOURCE['user']}'," in line]
    assert {cells[7] for cells in granted if (cells[3], cells[5]) == ("allow", "subscribe")} == set(SOURCE["topic"]) - {
        HEARTBEAT
    }
    assert f"'{HEARTBEAT}'" in (ROOT / "deploy" / "postgres" / "accounts.sql").read_text()


def test_sizes_fit_each_other() -> None:
    (topic,) = [topic for topic in wanted(Settings(_env_file=None)) if topic.name == SINK["topic"]]
    assert int(OPTIONS["message.max.bytes"]) == int(topic.config["max.message.bytes"])
    # a packet whose topic is also the key and a header
    assert SOURCE["max_packet_size"] + 2 * 65_535 < int(OPTIONS["message.max.bytes"])
    emqx = (ROOT / "deploy" / "emqx" / "emqx.conf").read_text()
    broker = int(emqx.partition("max_packet_size = ")[2].partition("KB")[0]) * 1024
    # the largest payload and a topic of 30 kB; and the broker takes nothing that would block Vector's session
    assert Settings(_env_file=None).payload_max_bytes + 30_000 < broker < SOURCE["max_packet_size"]


def test_nothing_is_dropped_or_reordered_by_choice() -> None:
    assert SINK["buffer"] == {"type": "disk", "max_size": 1 << 30, "when_full": "block"}
    assert SINK["message_timeout_ms"] == 0
    assert (OPTIONS["enable.idempotence"], OPTIONS["acks"]) == ("true", "all")
    assert OPTIONS["partitioner"] == "murmur2_random"
    assert (SOURCE["decoding"]["codec"], SOURCE["framing"]["method"]) == ("bytes", "bytes")
    assert SINK["encoding"]["codec"] == "raw_message"
    assert not CONFIG["transforms"]["record"]["drop_on_error"]
    assert not CONFIG["transforms"]["record"]["drop_on_abort"]


CHECK = ROOT / "deploy" / "vector" / "healthcheck"
EXPOSED = """\
# TYPE vector_component_received_events_total counter
vector_component_received_events_total{{component_id="mqtt_in",component_kind="source"}} {count} 1795260495532
vector_component_received_events_total{{component_id="record",component_kind="transform"}} {other} 1795260495532
"""


@contextmanager
def exposing(figures: dict[str, int]) -> Iterator[str]:
    """Serve metrics as Vector's exporter writes them; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = EXPOSED.format(**figures).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()


def check(url: str, limit: int, seen: Path) -> subprocess.CompletedProcess[str]:
    """The result of a run of the health check."""
    command = ["sh", str(CHECK), url, str(limit), str(seen)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.skipif(shutil.which("wget") is None, reason="the health check runs wget, as the image has it")
def test_the_health_check_fails_once_nothing_arrives(tmp_path: Path) -> None:
    seen, figures = tmp_path / "seen", {"count": 12_345_678, "other": 1}
    with exposing(figures) as url:
        assert check(url, 120, seen).returncode == 0
        count, since = seen.read_text().split()
        assert count == "12345678"
        assert check(url, 120, seen).returncode == 0, "silent, but not for long"
        seen.write_text(f"{count} {int(since) - 121}\n")
        figures["other"] = 2
        deaf = check(url, 120, seen)
        assert deaf.returncode == 1
        assert "has received nothing for 12" in deaf.stdout
        figures["count"] += 1
        assert check(url, 120, seen).returncode == 0, "received again"
        assert seen.read_text().startswith("12345679 ")
    gone = check(url, 120, seen)
    assert (gone.returncode, "does not answer" in gone.stdout) == (1, True)
