"""Waiting for Kafka's ack: each request for its own, for so long, and not at all once Kafka is away for long."""

import asyncio
from typing import cast

import pytest

from app.core.ingress.limits import IngressLimits
from app.core.model.records import Kind
from app.gateways.admission import Admission
from app.gateways.http.acks import Acks
from app.gateways.intake import Intake
from app.gateways.record import IngestRecord
from app.gateways.writer import KafkaWriter
from tests.unit.gateways.http.gateway import FakeWriter


def record() -> IngestRecord:
    headers = [("mqtt_topic", b"users/u/devices/d/telemetry"), ("kind", b"telemetry"), ("ingest_ms", b"1")]
    return IngestRecord(Kind.TELEMETRY, b"u/d", b"{}", [*headers, ("gateway", b"http")], 0, 1)


@pytest.fixture
def writer() -> FakeWriter:
    return FakeWriter()


@pytest.fixture
def intake(writer: FakeWriter) -> Intake:
    return Intake(cast(KafkaWriter, writer), 1 << 20, Admission(IngressLimits()))


async def run(intake: Intake, stop: asyncio.Event) -> None:
    await intake.run(stop, 0.2)


async def test_the_oldest_that_wait_too_long_are_answered_so_and_no_others(intake: Intake, writer: FakeWriter) -> None:
    stop, acks = asyncio.Event(), Acks(intake, 0.3)
    running = asyncio.create_task(run(intake, stop))
    writer.there.clear()
    first = asyncio.create_task(acks.of([record()], []))
    await asyncio.sleep(0.35)
    second = asyncio.create_task(acks.of([record()], []))
    await asyncio.sleep(0)
    acks.sweep()
    assert await first is None
    assert len(acks) == 1
    writer.there.set()
    assert await second == []
    assert len(writer.records) == 2, "nobody takes back what was taken"
    assert len(acks) == 0
    stop.set()
    await running


async def test_a_task_that_is_cancelled_is_cancelled(intake: Intake, writer: FakeWriter) -> None:
    acks = Acks(intake, 10.0)
    waiting = asyncio.create_task(acks.of([record()], []))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(acks) == 0


@pytest.mark.parametrize("stands_still", [False, True])
async def test_kafka_away_for_long_is_hopeless_until_it_is_back(
    intake: Intake, writer: FakeWriter, stands_still: bool
) -> None:
    writer.stands_still = stands_still
    acks = Acks(intake, 10.0, away_seconds=0.1)
    acks.sweep()
    assert not acks.hopeless
    writer.there.clear()
    acks.sweep()
    assert not acks.hopeless, "a new leader takes as long"
    await asyncio.sleep(0.15)
    assert acks.hopeless
    writer.there.set()
    acks.sweep()
    assert not acks.hopeless


async def test_what_is_submitted_after_the_stop_is_not_acknowledged(intake: Intake, writer: FakeWriter) -> None:
    stop = asyncio.Event()
    stop.set()
    await run(intake, stop)
    assert await Acks(intake, 10.0).of([record()], []) is None
