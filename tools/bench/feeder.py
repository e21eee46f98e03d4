"""An endless source of readings for a topic, ahead of its consumer, written from a thread."""

import asyncio
import threading
import time

from aiokafka import AIOKafkaProducer

from tools.bench.load import reading


class Feeder:
    """Writes readings from a thread, up to the number that the topic may contain."""

    def __init__(self, kafka: str, topic: str, devices: int) -> None:
        self._kafka, self._topic, self._devices = kafka, topic, devices
        self._begin = time.time() - 30 * 86400
        self.wanted = 0
        self.written = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._feed()), daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; records in flight are still written."""
        self._stop.set()
        self._thread.join()

    async def _feed(self) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._kafka, linger_ms=20, max_batch_size=1 << 18) as producer:
            while not self._stop.is_set():
                if self.written >= self.wanted:
                    await asyncio.sleep(0.05)
                    continue
                for number in range(self.written, self.written + 1000):
                    key, value = reading(number, self._devices, self._begin, 100)
                    await producer.send(self._topic, value, key=key)
                self.written += 1000
