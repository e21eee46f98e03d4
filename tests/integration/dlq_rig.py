"""Dead letters on a real Kafka, and `iot-stream dlq` as an operator runs it."""

import asyncio
import io
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.cli.main import main
from app.kafka.access import Access
from app.kafka.messages import OutgoingMessage
from app.kafka.producer import Producer
from app.kafka.topics import TopicSpec, create
from tests.unit.deadletters.letters import Held, held
from tools.command import ROOT, Done

PARTITIONS = 4
_ALONE = threading.Lock()  # standard output is the process's


@dataclass
class Rig:
    """Topics of a test's own on one broker, and settings that name them."""

    kafka: str
    unique: str
    more: dict[str, object]

    @property
    def values(self) -> dict[str, object]:
        """Settings by field name."""
        return {
            "app": self.unique, "kafka_broker": self.kafka, "kafka_topic": f"{self.unique}-in",
            "kafka_dlq_topic": f"{self.unique}-dlq", "kafka_quarantine_topic": f"{self.unique}-quarantine",
            "kafka_partitions": PARTITIONS, **self.more,
        }  # fmt: skip

    async def prepare(self) -> None:
        """Make the topics."""
        topics = [("kafka_topic", "1000000"), ("kafka_dlq_topic", "2097152")]
        specs = [TopicSpec(str(self.values[name]), PARTITIONS, {"max.message.bytes": most}) for name, most in topics]
        await create(Access(self.kafka), specs, 1)

    async def write(self, letters: Sequence[Held], topic: str = "kafka_dlq_topic") -> None:
        """Put letters where workers put them."""
        producer = Producer(Access(self.kafka), "test", asyncio.Event())
        try:
            sent = [OutgoingMessage(one.key, one.value, list(one.headers)) for one in letters]
            await producer.send(str(self.values[topic]), sent)
        finally:
            await producer.stop()

    async def read(self, topic: str = "kafka_topic") -> list[Any]:
        """Every record of a topic, by partition and offset."""
        async with AIOKafkaConsumer(bootstrap_servers=self.kafka, max_partition_fetch_bytes=8 << 20) as consumer:
            tps = [TopicPartition(str(self.values[topic]), number) for number in range(PARTITIONS)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            ends, found = await consumer.end_offsets(tps), []
            while [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    found += records
        return sorted(found, key=lambda one: (one.partition, one.offset))

    async def dlq(self, *words: str | Path) -> Done:
        """Run `iot-stream dlq` to its end, in a thread: a process of its own takes most of a second to start."""
        return await asyncio.to_thread(_run, self.values, ["dlq", *map(str, words)])

    @asynccontextmanager
    async def running(self, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """`iot-stream dlq` that runs; killed at the end."""
        environment = {f"IOT_{name.upper()}": str(value) for name, value in self.values.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "dlq", *words, cwd=ROOT, env={**os.environ, **environment},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def arrived(self, count: int) -> None:
        """Wait until the input topic has so many records."""
        async with AIOKafkaConsumer(bootstrap_servers=self.kafka) as consumer:
            tps = [TopicPartition(str(self.values["kafka_topic"]), number) for number in range(PARTITIONS)]
            async with asyncio.timeout(60):
                while sum((await consumer.end_offsets(tps)).values()) < count:  # noqa: ASYNC110  # of another process
                    await asyncio.sleep(0.02)


def _run(values: Mapping[str, object], words: list[str]) -> Done:
    environment = {f"IOT_{name.upper()}": str(value) for name, value in values.items()}
    out, error = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    configured = structlog.get_config()
    with _ALONE, pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, "COLUMNS": "120"}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["iot-stream", *words])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", error)
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        finally:
            logging.disable(logging.NOTSET)
            structlog.configure(**configured)
    said = []
    for stream in (out, error):
        stream.flush()
        stream.seek(0)
        said.append(stream.read())
    return Done(code if isinstance(code, int) else 1 if code else 0, *said)


def numbered(count: int, *, broken: int = 0) -> list[Held]:
    """Letters of 20 devices with a number in each payload; the last `broken` are of another reason."""
    return [
        held(b'{"sequence_id":%d}' % number, device=f"d{number % 20}", more=[("number", b"%d" % number)])
        for number in range(count)
    ] + [held(b"%d" % number, user="u2", device="other") for number in range(broken)]


def numbers(records: Sequence[Any]) -> list[int]:
    """The numbers in the payloads of records."""
    return [json.loads(record.value)["sequence_id"] for record in records]
