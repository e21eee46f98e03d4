"""The auditors of the random runs find what is lost, doubled or altered: in these tests nobody else is at work."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.postgres.connect import Connection
from tests.workers import Site, until
from tools.faults.accounts import Accounts, draw_up
from tools.faults.mqtt import Heard
from tools.faults.stream import Stream
from tools.faults.tail import Tail
from tools.faults.ways.streams import WayStream

pytestmark = [pytest.mark.faults, pytest.mark.integration]

MESSAGES, DEVICES = 1000, 10
INSERT = "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature) VALUES ($1, $2, $3, $4, $5)"


class Perfect:
    """Everything as it should be after a run, made by hand."""

    def __init__(self, site: Site, database: Connection, way: str | None) -> None:
        """`way`: a gateway's, or None: as if written to Kafka."""
        self.site, self.database = site, database
        begin = datetime.now(UTC) - timedelta(days=1)
        self.stream = Stream("k", site.unique, DEVICES, 1, begin)
        if way is not None:
            self.stream = WayStream(way, site.unique, DEVICES, 1, begin)
        self.stream.sent = MESSAGES
        self.tail = Tail(site, [self.stream])
        self.heard: list[Heard] = []

    async def make(self) -> None:
        """Messages, rows, dead letters, alerts and commits."""
        async with AIOKafkaProducer(bootstrap_servers=self.site.kafka) as producer:
            for n in range(MESSAGES):
                await self.message(producer, n)
            for alert in self.stream.alerts():
                one = Heard(f"id of {alert.device} {alert.first_seen}", alert.status, *alert[:2], alert.first_seen)
                self.heard.append(one)
                names = ("alert_id", "status", "device_id", "first_seen", "event_time")
                event = json.dumps(dict(zip(names, one, strict=True))).encode()
                await producer.send(self.site.settings.kafka_alerts_topic, event, key=alert.device.encode())
        for topic, group in (("kafka_topic", ""), ("kafka_alerts_topic", "-notifier")):
            await self.commit(getattr(self.site.settings, topic), self.site.settings.group_id + group)
        reading = asyncio.create_task(self.tail.run())

        async def read() -> bool:
            return self.tail.has(self.stream)

        await until(read, 30, lambda: "the tail does not come to its end")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    async def message(self, producer: AIOKafkaProducer, n: int) -> None:
        """Write a message, and its row or dead letter."""
        one, settings = self.stream.message(n), self.site.settings
        headers = [("mqtt_topic", one.topic.encode())]
        sent = await producer.send(settings.kafka_topic, one.payload, key=one.key, headers=headers)
        if one.reason is None:
            await self.row(n)
        else:
            record = await sent
            await self.letter(producer, n, record.partition, record.offset)

    async def row(self, n: int, **change: object) -> None:
        """The row of a message."""
        device, temperature = self.stream.device(n), change.get("temperature", self.stream.temperature(n))
        time = change.get("time", self.stream.time(n))
        await self.database.execute(INSERT, time, self.site.unique, device, n, temperature)

    async def letter(self, producer: AIOKafkaProducer, n: int, partition: int, offset: int) -> None:
        """A dead letter about a message."""
        one = self.stream.message(n)
        source = {"partition": partition, "offset": offset}
        payload = base64.b64encode(one.payload).decode()
        envelope = {"source": source, "reason": one.reason, "error": "", "payload_base64": payload}
        topic = self.site.settings.kafka_dlq_topic
        await producer.send_and_wait(topic, json.dumps(envelope).encode(), key=one.key)

    async def commit(self, topic: str, group: str) -> None:
        """As a worker or notifier that is done."""
        async with AIOKafkaConsumer(bootstrap_servers=self.site.kafka, group_id=group) as consumer:
            ends = await self.site.ends(topic)
            parts = {TopicPartition(topic, number): end for number, end in ends.items()}
            consumer.assign(list(parts))
            await consumer.commit(parts)

    async def accounts(self) -> Accounts:
        """What the auditors say."""
        return await draw_up(self.site, [self.stream], self.tail, self.heard)

    async def find(
        self, what: str, lie: Callable[[], Awaitable[object]], undo: Callable[[], Awaitable[object]]
    ) -> None:
        """The lie is found, and nothing once it is taken back."""
        await lie()
        found = (await self.accounts()).problems
        assert len(found) == 1, found
        assert what in found[0]
        await undo()
        assert (await self.accounts()).problems == []


@pytest.mark.parametrize("way", [None, "http"])
async def test_each_lie_is_found(site: Site, way: str | None) -> None:
    database = await asyncpg.connect(site.database)
    try:
        perfect = Perfect(site, database, way)
        await perfect.make()
        await lies_are_found(perfect)
    finally:
        await database.close()


async def lies_are_found(perfect: Perfect) -> None:
    """Plant one lie after another, each taken back."""
    site = perfect.site
    accounts = await perfect.accounts()
    assert accounts.problems == []
    assert accounts.mqtt.episodes == accounts.mqtt.seen > 5
    letter = perfect.stream.letter
    good = next(n for n in range(100, MESSAGES) if not perfect.stream.bad(n))
    later = perfect.stream.time(good) + timedelta(milliseconds=1)

    def sql(text: str, *args: object) -> Callable[[], Awaitable[object]]:
        return lambda: site.fetch(text, *args)

    def again() -> Awaitable[object]:
        return perfect.row(good, time=later)

    remove = sql("DELETE FROM raw_telemetry WHERE sequence_id = $1", good)
    await perfect.find(f"rows: {letter} lost: 1", remove, lambda: perfect.row(good))
    await perfect.find("unexpected or altered rows", again, sql("DELETE FROM raw_telemetry WHERE time = $1", later))
    alter = "UPDATE raw_telemetry SET temperature = temperature + $2 WHERE sequence_id = $1"
    await site.fetch(alter, good, 1.0)
    assert [one.split(":")[0] for one in (await perfect.accounts()).problems] == [
        "unexpected or altered rows",
        "rows",
    ]
    await site.fetch(alter, good, -1.0)
    await lies_about_alerts(perfect)
    await lies_about_letters(perfect, good)


async def lies_about_alerts(perfect: Perfect) -> None:
    """An alert that nobody received, an alert with a second id, two in the wrong order; a repeat is no lie."""
    heard = perfect.heard
    for what, lie in {
        "alerts over MQTT: lost: 1": heard[:5] + heard[6:],
        "alerts over MQTT: doubled or unexpected: 1": [*heard, heard[5]._replace(alert_id="another")],
        "alerts over MQTT: devices whose alerts are not in order": heard[::-1],
    }.items():
        perfect.heard = lie
        [found] = (await perfect.accounts()).problems
        assert what in found
    perfect.heard = [*heard, heard[5]]
    accounts = await perfect.accounts()
    assert accounts.problems == []
    assert accounts.mqtt.repeats == 1
    perfect.heard = heard


async def lies_about_letters(perfect: Perfect, good: int) -> None:
    """A message that never came, a bad one dead-lettered twice, a good one dead-lettered."""
    letter = perfect.stream.letter
    perfect.tail.times[letter][good] = 0
    assert (await perfect.accounts()).problems == [f"input topic: {letter} lost: 1, such as {good}"]
    perfect.tail.times[letter][good] = 1
    async with AIOKafkaProducer(bootstrap_servers=perfect.site.kafka) as producer:
        (partition, offset), [(_, bad)] = next(iter(perfect.tail.bad.items()))
        await perfect.letter(producer, bad, partition, offset)
        assert (await perfect.accounts()).problems == [f"dead letters: {letter} doubled: 1, such as {bad}"]
        await perfect.letter(producer, good, 0, 10**6)
    accounts = await perfect.accounts()
    assert accounts.dead_good == 1
    assert len(accounts.problems) == 2
