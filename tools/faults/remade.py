"""Recreated topics: in, a site and names of its topics; out, topics of the same names with new logs."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.new_partitions import NewPartitions

from app.kafka.access import Access
from app.kafka.topic_ids import TopicIds
from app.kafka.topics import create, wanted
from tests.workers import Site, until


async def remove(site: Site, *names: str) -> None:
    """Delete topics and wait until no broker lists the topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        await admin.delete_topics(list(names))
    finally:
        await admin.close()
    ids = TopicIds(Access(site.kafka))

    async def gone() -> bool:
        return not await ids.ask(names)

    try:
        await until(gone, 60, lambda: f"topics {names} still exist")
    finally:
        await ids.close()


async def remake(site: Site, *names: str, gap: float = 0.0) -> None:
    """Delete topics and recreate them with the same settings, `gap` seconds later."""
    await remove(site, *names)
    await asyncio.sleep(gap)
    await create(Access(site.kafka), wanted(site.settings), 1)


async def grow(site: Site, count: int, *names: str) -> None:
    """Increase the number of partitions of topics to `count`."""
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        await admin.create_partitions({name: NewPartitions(count) for name in names})
    finally:
        await admin.close()


class Sender:
    """Sends readings of a site's own user with the current time; Kafka has acknowledged them when `send` returns."""

    def __init__(self, site: Site) -> None:
        self._site, self.sent = site, 0

    async def send(self, device: str, temperatures: Sequence[float]) -> None:
        """Send one reading per temperature, in order."""
        async with AIOKafkaProducer(bootstrap_servers=self._site.kafka, enable_idempotence=True) as producer:
            user, topic = self._site.unique, self._site.settings.kafka_topic
            headers = [("mqtt_topic", f"users/{user}/devices/{device}/telemetry".encode()), ("kind", b"telemetry")]
            for temperature in temperatures:
                self.sent += 1
                body = {"time": datetime.now(UTC).isoformat(), "sequence_id": self.sent, "temperature": temperature}
                key = f"{user}/{device}".encode()
                await producer.send(topic, json.dumps(body).encode(), key=key, headers=headers)
