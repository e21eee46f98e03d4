"""From one iot-stream to another: http_feed to the HTTP gateway, grpc to the gRPC gateway; nothing lost or altered."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from app.core.ingress.limits import IngressLimits
from app.core.routing.publish_rules import PublishRules
from app.gateways.admission import Admission
from app.gateways.http.server import HttpGateway
from app.gateways.intake import Intake
from app.gateways.record import IngestRecord
from app.gateways.writer import KafkaWriter
from app.ports import Account
from app.settings import Settings
from app.sinks.feed.sink import FeedSink
from app.sinks.grpc_push.sink import GrpcPushSink
from app.sinks.port import SinkUnavailable
from tests.contract.gateways.grpc.world import HeldWriter, KnownAccounts, world
from tests.receivers.readings import pushed

OPERATOR = Account("centre", rules=PublishRules([], superuser=True))
RECORDS = [
    pushed(1, "truck-1", user="alice", fuel=41.25, tyres={"front": 2.4}),
    pushed(2, "press", user="plant", node=True, temperature=None, battery=None, value=4.25),
    pushed(3, "truck-1", user="alice", temperature=None, battery=0, note="ä"),
]
SAID: list[tuple[bytes, bytes, dict[str, Any]]] = [
    (
        b"users/alice/devices/truck-1/telemetry",
        b"alice/truck-1",
        {"temperature": 21.5, "battery": 80, "fuel": 41.25, "tyres": {"front": 2.4}},
    ),
    (b"iot/plant/press/telemetry", b"plant", {"value": 4.25}),
    (b"users/alice/devices/truck-1/telemetry", b"alice/truck-1", {"battery": 0, "note": "ä"}),
]


def known() -> KnownAccounts:
    made = KnownAccounts()
    made.tokens["centre"] = OPERATOR
    return made


def said(records: Sequence[IngestRecord]) -> list[tuple[bytes, bytes, dict[str, Any]]]:
    """Topic, key and fields of each record, in order of their numbers; without the fields that differ by gateway."""
    found = []
    for record in records:
        fields = json.loads(record.value)
        number = fields.pop("sequence_id")
        for name in ("timestamp", "user_id", "device_id", "node_id", "sensor_id"):
            fields.pop(name, None)
        found.append((number, (dict(record.headers)["mqtt_topic"], record.key, fields)))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


@asynccontextmanager
async def http_gateway(limits: IngressLimits) -> AsyncIterator[tuple[HttpGateway, HeldWriter]]:
    writer, settings = HeldWriter(), Settings(http_port=0)
    intake = Intake(cast(KafkaWriter, writer), settings.gateway_buffer_bytes, Admission(limits))
    gateway, stop = HttpGateway(settings, intake, known()), asyncio.Event()
    writing = asyncio.create_task(intake.run(stop, 1.0))
    try:
        await gateway.start()
        yield gateway, writer
    finally:
        await gateway.stop(2.0)
        stop.set()
        await writing


def feed_to(gateway: HttpGateway, **more: Any) -> FeedSink:
    url = f"http://127.0.0.1:{gateway.port}/v1/events"
    given = {"feed_url": url, "feed_token": "centre", "feed_token_header": "Authorization", **more}
    return FeedSink("feed", Settings(**given))


@pytest.mark.parametrize("more", [{}, {"feed_format": "ndjson", "feed_gzip": True}], ids=str)
async def test_a_feed_to_the_http_gateway(more: dict[str, Any]) -> None:
    async with http_gateway(IngressLimits()) as (gateway, writer):
        sink = feed_to(gateway, **more)
        await sink.open()
        sink.add(RECORDS)
        assert await sink.flush() == ({0: 4}, [])
        await sink.close()
    assert said(writer.written) == SAID


async def test_what_the_gateway_rejects_is_refused_and_the_rest_there() -> None:
    async with http_gateway(IngressLimits()) as (gateway, writer):
        sink = feed_to(gateway)
        sink.add([RECORDS[0], pushed(2, "with/slash", user="alice"), RECORDS[2]])
        ((record, why),) = (await sink.flush()).refused
        await sink.close()
    assert record.offset == 2
    assert "bad_id" in why or "not_allowed" in why
    assert len(writer.written) == 2


async def test_what_is_over_a_limit_of_the_gateway_comes_again_in_order() -> None:
    async with http_gateway(IngressLimits(device_messages=20.0, burst=0.5)) as (gateway, writer):
        sink = feed_to(gateway, feed_batch=10)
        sink.add([pushed(n, "truck-1", user="alice") for n in range(30)])
        failures = 0
        while sink.held.records:
            try:
                done = await sink.flush()
            except SinkUnavailable as failure:
                done = failure.so_far
                failures += 1
                await asyncio.sleep(0.05)
            assert not done.refused
        await sink.close()
    numbers = [json.loads(record.value)["sequence_id"] for record in writer.written]
    assert failures
    assert sorted(numbers) == list(range(30))


async def test_a_push_to_the_grpc_gateway() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "grpc.sock"  # a UNIX socket needs a short path
        async with world(path, accounts=known()) as found:
            target: dict[str, Any] = {"grpc_push_target": f"unix://{path}", "grpc_push_token": "centre"}
            sink = GrpcPushSink("push", Settings(**target, grpc_push_service="ingest"))
            await sink.open()
            sink.add(RECORDS)
            assert await sink.flush() == ({0: 4}, [])
            await sink.close()
            assert said(found.writer.written) == SAID
            stranger = Settings(grpc_push_target=f"unix://{path}", grpc_push_token="none", grpc_push_service="ingest")
            sink = GrpcPushSink("push", stranger)
            with pytest.raises(SinkUnavailable, match="UNAUTHENTICATED") as caught:
                await sink.open()
            assert "IOT_GRPC_PUSH_TOKEN" in caught.value.cure
            await sink.close()
