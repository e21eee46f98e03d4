"""The Kafka client's own spans, on a real broker: of `send` and `getone`, in their trace; none of `getmany`."""

import os
import subprocess
import sys

import pytest

from tests.otlp import receiver
from tests.servers import KafkaServer

pytestmark = pytest.mark.integration

CODE = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from app.runtime.tracing.start import start_tracing
from app.settings import Settings

getmany = AIOKafkaConsumer.getmany
tracing = start_tracing("test", Settings(trace_aiokafka=True, trace_ratio=0))
assert AIOKafkaConsumer.getmany is getmany, "a span for each record costs more than the record"

async def main(kafka, topic):
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        with tracing.span("bridge"):
            await producer.send_and_wait(topic, b"traced", headers=[])
        await producer.send_and_wait(topic, b"not traced", headers=[])
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
        for _ in range(2):
            await consumer.getone()

asyncio.run(main(*sys.argv[1:]))
tracing.stop(5)
"""


def test_what_is_sent_within_a_span_is_its_child_and_so_is_its_receipt(kafka: KafkaServer, unique: str) -> None:
    """In a process of its own, for there the client is wrapped."""
    with receiver() as collector:
        command = [sys.executable, "-c", CODE, kafka.bootstrap, unique]
        environment = {**os.environ, **collector.environment()}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found = {span.kind: span for span in collector.spans}
        assert len(collector.spans) == 3
    assert found["PRODUCER"].is_child_of(found["INTERNAL"])
    assert found["CONSUMER"].is_child_of(found["PRODUCER"])
    assert found["PRODUCER"].attributes["messaging.destination.name"] == unique
