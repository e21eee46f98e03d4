"""The files that docs/architecture.md counts are those that a payload passes, asked of a worker that runs."""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.stores import connected, waiting_backend
from tests.passed_files import APP, MARKED
from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site, until

pytestmark = pytest.mark.integration

MESSAGES = 40
ARCHITECTURE = (APP.parent / "docs" / "architecture.md").read_text()

# Handed a payload, or what becomes of it, and no step on its way to the row, or one in the place of another; and what
# such a file does instead.
ASIDE = {
    "app/core/decode/decoder.py": "in the place of run_decoder.py, decodes slices of fewer than eight records",
    "app/kafka/fetch/lenient_records.py": "keeps the bytes of a response, for a record that aiokafka cannot read: none",
    "app/stream/poll_fetch.py": "says how many records a poll takes",
    "app/stream/in_flight.py": "keeps count of batches",
    "app/stream/rebalance/sensor.py": "notes the first batch after a rebalance",
    "app/core/model/arrival.py": "says when a record came in",
    "app/core/processing/batch_end.py": "gathers the states after the last record",
    "app/kafka/dead_letters.py": "sends what was rejected: nothing",
    "app/postgres/store/late_horizon.py": "says which rows are late: none",
    "app/core/batch/books.py": "counts the rows that are stored",
    "app/stream/transport.py": "acks the batch, after the row",
    "app/ports.py": "makes no spans, as tracing is off",
    "app/core/ingress/tenant_freshness.py": "looks at a sample of the rows that are stored",
    "app/ops/ledger.py": "counts and logs the batch, after the row",
    "app/worker/watchdog.py": "looks which batch is the oldest",
    "app/worker/waiting_time.py": "says how long the oldest batch has waited",
}


def counted(heading: str) -> set[str]:
    """The files of a table of docs/architecture.md."""
    table = ARCHITECTURE.partition(f"\n### {heading}\n")[2].partition("\n| ---")[2].partition("\n\n")[0]
    return set(re.findall(r"\]\(\.\./(app/[\w/]+\.py)\)", table))


async def send(site: Site, numbers: Sequence[int]) -> None:
    """Readings of one device, one after another."""
    came_in = str(time.time_ns() // 1_000_000).encode()
    headers = [  # in the order of a bridge
        ("mqtt_topic", f"users/{site.unique}/devices/d1/telemetry".encode()),
        ("kind", b"telemetry"),
        ("ingest_ms", came_in),
    ]
    async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
        for number in numbers:
            reading = {"time": datetime.now(UTC).isoformat(), "sequence_id": number, "temperature": 21.5}
            key, value = f"{site.unique}/d1".encode(), json.dumps(reading).encode()
            await producer.send(site.settings.kafka_topic, value, key=key, headers=headers)
            await asyncio.sleep(0.01)  # several batches, of several polls


async def send_while_the_database_waits(site: Site, worker: Running, numbers: Sequence[int]) -> None:
    """Readings of one device: while the first of them waits for its row, the others are fetched.

    A worker that keeps up is handed each record by the poll that waits for it, which is aiokafka's way; records that
    are fetched already are taken by fetcher.py.
    """
    async with connected(site.database) as writer, connected(site.database) as watcher:
        lock = writer.transaction()
        await lock.start()
        await writer.execute("LOCK TABLE raw_telemetry")
        await send(site, numbers[:1])
        await waiting_backend(watcher)
        await send(site, numbers[1:])

        async def fetched() -> bool:
            found = re.search(r"^iot_fetched_bytes (\S+)$", (await worker.get("/metrics"))[1], re.MULTILINE)
            return found is not None and float(found[1]) > 0

        await until(fetched, 10, lambda: "the worker fetches nothing while it has no room")
        await lock.rollback()


async def test_a_payload_passes_the_files_that_are_counted(
    kafka: KafkaServer,
    database: str,
    mosquitto: MqttServer,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = tmp_path / "passed.json"
    monkeypatch.setenv("TEST_PASSED", str(found))
    one_batch = {"buffer_max_bytes": 1}  # there is no room for more than the batch at work
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, one_batch)
    await site.prepare([])
    with site.program("noting worker", "worker") as worker:
        await worker.ready()
        await send(site, range(1, MESSAGES))
        await site.settled_input()  # from here on it is a device whose fields were seen before
        await send_while_the_database_waits(site, worker, MARKED[:MESSAGES])
        await site.settled_input()
        worker.stop()
    passed = json.loads(found.read_text())
    row = counted("A payload becomes a row")
    assert sorted(row - passed.keys()) == [], "no function of it is handed a payload: it is not on the way"
    others = row | counted("A reading becomes an alert") | ASIDE.keys()
    assert {file: where for file, where in passed.items() if file not in others} == {}, (
        "a step on the way to the row is counted among the ten; any other file is in ASIDE, with what it does"
    )
