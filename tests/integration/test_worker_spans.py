"""A real worker that exports: its rows are stored and its spans arrive, or its rows are stored and the spans do not."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from tests.otlp import Mode, OtlpReceiver, closed_endpoint, environment, receiver
from tests.servers import KafkaServer, MqttServer
from tests.spans import SAMPLED
from tests.workers import Running, Site, until
from tools.faults.load import RULES

pytestmark = pytest.mark.integration

TRACE = SAMPLED[3:35].decode()


@pytest.fixture
def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Whoever says that he is sampled is believed."""
    return Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"trace_incoming_per_second": 1_000_000})


@contextmanager
def worker(site: Site, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Iterator[Running]:
    """A worker with these variables beside its settings."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with site.program("worker") as made:
        yield made


async def send(site: Site, count: int, first: int = 0, context: bytes | None = SAMPLED, **fields: Any) -> None:
    """Readings as a bridge writes them."""
    headers = [("mqtt_topic", f"users/{site.unique}/devices/d1/telemetry".encode()), ("kind", b"telemetry")]
    headers += [("ingest_ms", b"%d" % int(time.time() * 1000)), ("mqtt_id", b"1")]
    headers += [("traceparent", context)] if context else []
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, linger_ms=5) as producer:
        for number in range(first, first + count):
            told = {"time": datetime.now(UTC).isoformat(), "sequence_id": number, "temperature": 21.5, **fields}
            key = f"{site.unique}/d1".encode()
            await producer.send(site.settings.kafka_topic, json.dumps(told).encode(), key=key, headers=headers)


async def rows(site: Site) -> int:
    return int((await site.fetch("SELECT count(*) AS n FROM raw_telemetry"))[0]["n"])


async def metric(program: Running, name: str) -> float:
    _, page = await program.get("/metrics")
    return next(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    )


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_message_and_its_alert_are_one_trace(
    site: Site, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    await site.prepare(RULES)
    with receiver() as collector, worker(site, monkeypatch, collector.environment(protocol)) as program:
        await program.ready()
        await send(site, 5, context=None)
        await send(site, 1, first=123, temperature=99.5)
        await send(site, 1, first=124, context=None, battery="full")
        await site.settled_input()
        assert program.stop() < 10
        the_trace_is_whole(collector, site)
        assert program.events("worker_stopped")
    assert await rows(site) == 6


def the_trace_is_whole(collector: OtlpReceiver, site: Site) -> None:
    (message,) = collector.named("worker_process", device_id="d1", sequence_id=123)
    (alert,) = collector.named("alert_publish")
    flushes = [one for one in collector.named("batch_flush") if one.links_to(message)]
    (flush,) = flushes
    assert message.trace_id == TRACE
    assert message.parent_id == SAMPLED[36:52].decode()
    assert message.kind == "CONSUMER"
    assert message.attributes["iot.outcome"] == "stored"
    assert message.attributes["user_id"] == site.unique
    assert message.links_to(flush)
    assert alert.is_child_of(message)
    assert [one for one in collector.named("store_telemetry_batch") if one.is_child_of(flush)]
    (dead,) = collector.named("worker_process", sequence_id=124)
    assert (dead.status, dead.attributes["iot.reason"]) == ("ERROR", "wrong_type")
    assert message.resource["service.name"] == "iot-stream-worker"
    assert message.resource["service.namespace"] == site.unique
    assert len(collector.named("worker_process")) == 2
    assert collector.dangling() == []


@pytest.mark.parametrize(
    ("mode", "protocol"), [("hang", "grpc"), ("fail", "grpc"), ("fail", "http/protobuf"), ("away", "grpc")]
)
async def test_no_row_waits_for_a_collector(
    site: Site, monkeypatch: pytest.MonkeyPatch, mode: str, protocol: str
) -> None:
    """Every message is traced, and there are ten times as many as the queue holds."""
    await site.prepare([])
    with receiver() as collector:
        collector.mode = Mode.HANG if mode == "hang" else Mode.FAIL
        to = environment(closed_endpoint(), protocol) if mode == "away" else collector.environment(protocol)
        with worker(site, monkeypatch, to) as program:
            await program.ready()
            await send(site, 2000)
            await site.settled_input()
            memory = psutil.Process(program.pid).memory_info().rss
            await send(site, 20_000, first=2000)
            await site.settled_input()
            assert psutil.Process(program.pid).memory_info().rss - memory < 60e6

            async def dropped() -> bool:
                return await metric(program, "iot_trace_spans_dropped_total") > 10_000

            await until(dropped, 30, lambda: "spans are not counted as dropped")
            assert program.stop() < 10
            assert len(program.events("spans_not_exported")) <= 2
            assert "Traceback" not in program.log.read_text()
    assert await rows(site) == 22_000


async def test_wrong_variables_end_the_worker_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker(site, monkeypatch, {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}) as program:

        async def ended() -> bool:
            return not program.alive

        await until(ended, 20, lambda: "the worker runs")
        assert program._process is not None
        assert program._process.returncode == 2
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in program.tail()
