"""A steady load on the input topic: devices that overheat at times, and some bad messages."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaProducer

from tests.workers import Site
from tools.audit import Sent

DEVICES = 150
THRESHOLD = 80
RULES: list[dict[str, object]] = [
    {"key": "temperature", "operator": ">", "threshold": THRESHOLD, "message": "too hot"},
]
COLD, HOT = 30, 10  # readings of a device in a row; an episode is one run of hot ones
BAD_EVERY = 60  # one message of BAD_EVERY is bad
TICK = 0.02  # seconds between two bursts

BAD = [
    ('{"time":"%s","sequence_id":%d', "bad_json"),
    ('{"time":"%s","sequence_id":%d,"temperature":NaN}', "bad_json"),
    ('{"time":"%s","sequence_id":"%d"}', "wrong_type"),
    ('{"time":"%s","sequence_id":%d,"battery":90.5}', "wrong_type"),
    ('{"time":"%s","sequence_id":%d,"note":"\\u0000"}', "nul_character"),
    ('{"time":"%s","sequence_id":%d,"device_id":"somebody-else"}', "identity_mismatch"),
]


def messages(user: str, seed: int) -> Iterator[Sent]:
    """Endless messages, device after device; the readings of a device are 10 ms apart, from an hour ago on."""
    chance = random.Random(seed)
    begin = datetime.now(UTC) - timedelta(hours=1)
    number = 0
    while True:
        stamp = (begin + timedelta(milliseconds=10 * number)).isoformat(timespec="microseconds")
        stamp = stamp.replace("+00:00", "Z")
        for device in range(DEVICES):
            topic, key = f"users/{user}/devices/d{device}/telemetry", f"{user}/d{device}".encode()
            if chance.randrange(BAD_EVERY) == 0:
                text, reason = chance.choice(BAD)
                yield Sent(topic, key, (text % (stamp, number)).encode(), reason)
                continue
            hot = (number + 7 * device) % (COLD + HOT) >= COLD
            reading = {"time": stamp, "sequence_id": number, "temperature": THRESHOLD + (5 if hot else -5), "n": device}
            yield Sent(topic, key, json.dumps(reading).encode())
        number += 1


@asynccontextmanager
async def load(site: Site, per_second: int, seed: int = 1) -> AsyncIterator[list[Sent]]:
    """Send at a rate while the context lasts; the list has the sent messages, all acknowledged at the end."""
    sent: list[Sent] = []
    stop = asyncio.Event()
    task = asyncio.create_task(_send(site, per_second, seed, sent, stop))
    try:
        yield sent
    finally:
        stop.set()
        await task


async def _send(site: Site, per_second: int, seed: int, sent: list[Sent], stop: asyncio.Event) -> None:
    source = messages(site.unique, seed)
    topic = site.settings.kafka_topic
    async with AIOKafkaProducer(bootstrap_servers=site.kafka, enable_idempotence=True, linger_ms=5) as producer:
        began, pending = time.monotonic(), []
        while not stop.is_set():
            due = int((time.monotonic() - began) * per_second)
            while len(sent) < due:
                one = next(source)
                headers = [("mqtt_topic", one.topic.encode()), ("kind", b"telemetry")]
                pending.append(await producer.send(topic, one.payload, key=one.key, headers=headers))
                sent.append(one)
            await asyncio.sleep(TICK)
        await asyncio.gather(*pending)
