"""The benchmark's records: devices' readings as a bridge writes them to Kafka."""

import time
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

USERS = 50
SPACING = 0.001  # seconds between readings


async def fill(kafka: str, topic: str, rows: int, devices: int, headers: bool, spike_every: int = 100) -> None:
    """Write `rows` readings of about 135 bytes, lz4, in device order.

    Each device's temperature is above the alert threshold of 80 in one of `spike_every` readings: an alert opens
    and closes once in `spike_every` readings.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka, linger_ms=20, max_batch_size=1 << 18, compression_type="lz4", enable_idempotence=True
    )
    await producer.start()
    begin = time.time() - rows * SPACING - 600
    for i in range(rows):
        key, value = reading(i, devices, begin, spike_every)
        head = [("mqtt_topic", b"users/%s/devices/%s/telemetry" % tuple(key.split(b"/")))] if headers else []
        if headers:
            head += [("kind", b"telemetry"), ("ingest_ms", b"%d" % int((begin + i * SPACING) * 1000))]
        await producer.send(topic, value, key=key, headers=head)
    await producer.stop()


def reading(i: int, devices: int, begin: float, spike_every: int) -> tuple[bytes, bytes]:
    """Key and payload of the i-th reading."""
    device, turn = i % devices, i // devices
    user = device % USERS
    when = datetime.fromtimestamp(begin + i * SPACING, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    temperature = 95.5 if (turn + device) % spike_every == 0 else 20.5 + turn % 50
    value = (
        f'{{"time":"{when}","user_id":"u{user}","device_id":"d{device}","sequence_id":{i},'
        f'"temperature":{temperature},"battery":{20 + i % 80},"humidity":41.2}}'
    )
    return f"u{user}/d{device}".encode(), value.encode()
