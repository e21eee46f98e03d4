"""`iot-stream tcp` as its own process, with accounts in a real database and records in a real Kafka."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from app.local.servers.common import free_port
from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site
from tools.faults.ways.setup import PASSWORD, open_account

pytestmark = [pytest.mark.integration]


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Topics and one account of this test's own; the gateway has a port of its own."""
    more = {"tcp_port": free_port(), "gateway_client_id": f"tcp-{unique}"}
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await made.prepare([])
    await open_account(made)
    return made


class Lines:
    """A connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def said(self, seconds: float = 20.0) -> Any:
        """The next answer; None at the end."""
        async with asyncio.timeout(seconds):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def until_acked(self, number: int) -> list[Any]:
        """All answers up to this ack."""
        answers = [await self.said()]
        while answers[-1] != {"acked": number}:
            assert answers[-1] is not None, answers
            answers.append(await self.said())
        return answers


@asynccontextmanager
async def connected(site: Site, password: str = PASSWORD) -> AsyncIterator[Lines]:
    """A connection that has said its login."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.settings.tcp_port, limit=1 << 20)
    try:
        writer.write(json.dumps({"user": site.unique, "password": password}).encode() + b"\n")
        yield Lines(reader, writer)
    finally:
        writer.transport.abort()


def line(number: int, device: str = "d1") -> bytes:
    """A good one."""
    fields = {"device_id": device, "sequence_id": number, "timestamp": 1795226400.5, "temperature": 21.5}
    return json.dumps(fields).encode() + b"\n"


async def on_topic(site: Site) -> Sequence[ConsumerRecord]:
    """All records of the input topic, by partition and offset."""
    ends = await site.ends()
    found: list[ConsumerRecord] = []
    async with AIOKafkaConsumer(bootstrap_servers=site.kafka, group_id=None) as consumer:
        for number, end in ends.items():
            partition = TopicPartition(site.settings.kafka_topic, number)
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += records
    return found


def numbers(records: Sequence[ConsumerRecord]) -> list[int]:
    """The sequence_id of each."""
    return [json.loads(record.value)["sequence_id"] for record in records]


async def test_acked_lines_are_on_the_topic(site: Site) -> None:
    with site.program("tcp") as gateway:
        await gateway.ready()
        async with connected(site) as lines:
            assert await lines.said() == {"ok": True}
            sent = [line(number, f"d{number % 20}") for number in range(1, 5001)]
            lines.writer.writelines([*sent[:2500], b"no JSON\n", *sent[2500:]])
            answers = await lines.until_acked(5001)
            assert [answer["line"] for answer in answers if "line" in answer] == [2501]
        async with connected(site, "wrong") as lines:
            assert (await lines.said())["reason"] == "bad_credentials"
        records = await on_topic(site)
        assert sorted(numbers(records)) == list(range(1, 5001))
        for number in range(20):
            own = [record for record in records if record.key == f"{site.unique}/d{number}".encode()]
            assert numbers(own) == sorted(numbers(own))
            assert len({record.partition for record in own}) == 1
        headers = dict(records[0].headers)
        assert headers["mqtt_topic"].decode().startswith(f"users/{site.unique}/devices/d")
        assert (headers["kind"], headers["gateway"]) == (b"telemetry", b"tcp")
        _, page = await gateway.get("/metrics")
        assert 'iot_gateway_records_total{gateway="tcp"} 5000.0' in page
        assert 'iot_gateway_rejected_total{gateway="tcp",reason="bad_json"} 1.0' in page
        assert 'iot_gateway_refused_logins_total{gateway="tcp",reason="bad_credentials"} 1.0' in page
        assert PASSWORD not in gateway.log.read_text()


async def test_a_sender_that_repeats_what_has_no_ack_loses_nothing(site: Site) -> None:
    """A stop, and two kills, while lines flow."""
    count, acked = 30_000, 0
    with site.program("tcp") as gateway:
        await gateway.ready()

        async def send() -> None:
            nonlocal acked
            while acked < count:
                try:
                    async with connected(site) as lines:
                        acked = await flow(lines, acked, count)
                except (OSError, TimeoutError):
                    await asyncio.sleep(0.1)

        sending = asyncio.create_task(send())
        for ending in (gateway.kill, gateway.stop, gateway.kill):
            before = acked
            while acked < min(before + 2000, count - 1):  # noqa: ASYNC110 - a task counts
                await asyncio.sleep(0.01)
            await asyncio.to_thread(ending)
            gateway.start()
            await gateway.ready()
        async with asyncio.timeout(120):
            await sending
    found = numbers(await on_topic(site))
    assert set(found) == set(range(1, count + 1))
    firsts = list(dict.fromkeys(found))
    assert firsts == sorted(firsts)  # of one device, so in one partition


async def flow(lines: Lines, acked: int, count: int) -> int:
    """Send from the first line without an ack, some way ahead of the acks; the last ack, once the connection ends."""
    begun = sent = acked
    if await lines.said() != {"ok": True}:
        return acked
    while acked < count:
        while sent < min(count, acked + 3000):
            sent += 1
            lines.writer.write(line(sent))
        try:
            answer = await lines.said()
        except OSError:
            return acked
        if answer is None or "acked" not in answer:
            return acked
        acked = begun + answer["acked"]
    return acked


async def test_a_stop_answers_what_is_in_flight(site: Site) -> None:
    with site.program("tcp") as gateway:
        await gateway.ready()
        async with connected(site) as lines:
            assert await lines.said() == {"ok": True}
            lines.writer.writelines([line(number) for number in range(1, 20_001)])
            first = await lines.said()
            assert first["acked"] > 0
            os.kill(gateway.pid, signal.SIGTERM)
            last = first
            while (answer := await lines.said()) is not None:
                last, previous = answer, last
            assert last["reason"] == "stopping"
            lines.writer.close()
            await asyncio.to_thread(gateway_ended, gateway)
        assert previous["acked"] == max(numbers(await on_topic(site)))


def gateway_ended(gateway: Running) -> None:
    """Wait for its end, which SIGTERM has begun."""
    assert gateway._process
    assert gateway._process.wait(10) == 0, gateway.tail()


async def test_influx_lines_reach_the_topic(site: Site) -> None:
    site.more = {**site.more, "tcp_format": "influx", "gateway_influx_device_tag": "host"}
    with site.program("tcp") as gateway:
        await gateway.ready()
        async with connected(site) as lines:
            assert await lines.said() == {"ok": True}
            lines.writer.write(b'cpu,host=h1,cpu=cpu\\ 0 usage=1.5,cores=4i,note="a \\"b\\"" 1795226400123456789\n')
            await lines.until_acked(1)
        (record,) = await on_topic(site)
        assert record.key == f"{site.unique}/h1".encode()
        payload = json.loads(record.value)
        assert payload.pop("sequence_id") > 0
        assert payload == {
            "measurement": "cpu", "cpu": "cpu 0", "usage": 1.5, "cores": 4, "note": 'a "b"',
            "timestamp": 1795226400.123456789,
        }  # fmt: skip
