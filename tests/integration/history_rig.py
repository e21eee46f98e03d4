"""Readings on a real Kafka, and `iot-stream history` as an operator runs it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from tests.workers import Site
from tools.command import ROOT, Done, iot_stream

BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


async def history(site: Site, *words: str | Path, **more: object) -> Done:
    """Run `iot-stream history` to its end; `more` are further settings."""
    return await iot_stream({**site.values, **more}, "history", *words)


@asynccontextmanager
async def running(site: Site, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`iot-stream history` that runs; killed at the end."""
    environment = {f"IOT_{name.upper()}": str(value) for name, value in site.values.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "history", *words, cwd=ROOT, env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def reading(number: int, **fields: object) -> bytes:
    """The payload of a reading, a tenth of a second after the one before."""
    time = (BEGIN + timedelta(milliseconds=100 * number)).isoformat()
    return json.dumps({"time": time, "sequence_id": number, "temperature": 20.5, **fields}).encode()


async def send(
    site: Site,
    payloads: Sequence[bytes | None],
    *,
    topic: str | None = None,
    partition: int | None = None,
    written: datetime | None = None,
    more: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Put messages of one device into the input topic, as a bridge does. `topic`: the MQTT topic, of the device d1 of
    the site's user by default; `written`: the timestamp of the records, now by default; `more`: further headers.
    """
    mqtt_topic = topic or f"users/{site.unique}/devices/d1/telemetry"
    at_ms = None if written is None else int(written.timestamp() * 1000)
    arrived = b"%d" % (at_ms or int(datetime.now(UTC).timestamp() * 1000))
    headers = [("mqtt_topic", mqtt_topic.encode()), ("kind", b"telemetry"), ("ingest_ms", arrived), *more]
    async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
        sent = [
            await producer.send(
                site.settings.kafka_topic, payload, key=f"{site.unique}/d1".encode(), headers=headers,
                partition=partition, timestamp_ms=at_ms,
            )
            for payload in payloads
        ]  # fmt: skip
        await asyncio.gather(*sent)


async def numbers(site: Site, table: str = "raw_telemetry") -> list[int]:
    """The sequence_id of each row of a table."""
    rows = await site.fetch(f"SELECT sequence_id FROM {table} ORDER BY 1")
    return [row[0] for row in rows]


async def count_of(site: Site, table: str) -> int:
    """How many rows a table has; 0 while it is not there."""
    there = await site.fetch("SELECT to_regclass($1) IS NOT NULL", table)
    if not there[0][0]:
        return 0
    rows = await site.fetch(f"SELECT count(*) FROM {table}")
    return int(rows[0][0])


def audit_lines(path: Path) -> list[Mapping[str, Any]]:
    """The lines of an audit file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@asynccontextmanager
async def admin_of(site: Site) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client with which topics are deleted and cut."""
    client = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def signals_of(pid: int) -> int:
    """How many signals wait for a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1], 16).bit_count() for line in lines if line.startswith(("SigPnd", "ShdPnd")))


async def handled(pid: int) -> bool:
    """Whether the process has taken its signals."""
    return signals_of(pid) == 0
