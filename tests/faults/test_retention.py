"""Retention that takes records nobody has read: they are gone, and the worker says which, to the last offset."""

import os
import signal
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.workers import Running, Site, until
from tools.faults.stream import Stream

pytestmark = [pytest.mark.faults, pytest.mark.integration]

MESSAGES = 2400
TAKEN = 50  # records that retention takes of each partition


async def send(site: Site, stream: Stream, count: int) -> None:
    """The next `count` good messages of the stream."""
    numbers = [n for n in range(stream.sent, stream.sent + count) if not stream.bad(n)]
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, enable_idempotence=True) as producer:
        for one in map(stream.message, numbers):
            headers = [("mqtt_topic", one.topic.encode()), ("kind", b"telemetry")]
            await producer.send(site.settings.kafka_topic, one.payload, key=one.key, headers=headers)
    stream.sent += count


async def delete_before(site: Site, offsets: dict[int, int]) -> None:
    """What retention does: the log of each partition begins there now."""
    topic = site.settings.kafka_topic
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, p): RecordsToDelete(at) for p, at in offsets.items()})
    finally:
        await admin.close()


async def rows(site: Site) -> int:
    """Rows there are."""
    [(count,)] = await site.fetch("SELECT count(*) FROM raw_telemetry")
    return int(count)


def good(stream: Stream, numbers: Iterable[int]) -> int:
    """How many of these messages can be rows."""
    return sum(not stream.bad(n) for n in numbers)


def missing(worker: Running) -> int:
    """Offsets the worker has said are gone, by its log lines."""
    before = worker.events("committed_offset_outside_log")
    between = worker.events("offsets_missing_in_log")
    gaps = [one["continue_at"] - one["committed"] for one in before]
    gaps += [one["found"] - one["expected"] for one in between]
    return int(sum(gaps))


@pytest.fixture
def stream(unique: str) -> Stream:
    """What is sent."""
    return Stream("k", unique, 48, 1, datetime.now(UTC) - timedelta(days=1))


async def test_while_no_worker_runs(site: Site, stream: Stream) -> None:
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, stream, MESSAGES)
        await site.settled_input()
        worker.stop()
        committed = await site.committed()
        await send(site, stream, MESSAGES)
        ends = await site.ends()
        offsets = {part: min(at + TAKEN, ends[part]) for part, at in committed.items()}
        await delete_before(site, offsets)
        lost = sum(offsets.values()) - sum(committed.values())
        assert lost > TAKEN
        worker.start()
        await worker.ready()
        await send(site, stream, MESSAGES)  # a partition without a record is not committed anew
        await site.settled_input()
        assert missing(worker) == lost
        assert await rows(site) == good(stream, range(stream.sent)) - lost
        worker.stop()


async def test_while_the_worker_is_frozen(site: Site, stream: Stream) -> None:
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, stream, MESSAGES)
        await site.settled_input()
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            await send(site, stream, MESSAGES)
            ends = await site.ends()
            await delete_before(site, {part: max(0, end - TAKEN) for part, end in ends.items()})
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        await send(site, stream, MESSAGES)
        await site.settled_input()

        async def reported() -> bool:
            return await rows(site) + missing(worker) == good(stream, range(stream.sent))

        await until(reported, 30, lambda: f"{missing(worker)} reported missing; {worker.tail(10)}")
        assert missing(worker) > TAKEN
        worker.stop()
