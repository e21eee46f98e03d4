"""A record that Kafka's own clients would not write, and that aiokafka cannot read: a header's name is no UTF-8."""

import asyncio
import os
import sys

# A name is UTF-8 to Kafka's own clients, and bytes to its log; aiokafka's writer in Python can be fooled.
UNREADABLE = """
import asyncio, sys
from aiokafka import AIOKafkaProducer
class Name(str):
    def encode(self, *_):
        return bytes([0xff])
async def main():
    async with AIOKafkaProducer(bootstrap_servers=sys.argv[1]) as producer:
        await producer.send_and_wait(sys.argv[2], b"{}", key=b"k", partition=0, headers=[(Name("x"), b"1")])
asyncio.run(main())
"""


async def send_unreadable(bootstrap: str, topic: str) -> None:
    """A record on partition 0 of the topic that aiokafka cannot read; its payload is `{}`, its key `k`."""
    words = (sys.executable, "-c", UNREADABLE, bootstrap, topic)
    process = await asyncio.create_subprocess_exec(*words, env={**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"})
    assert await asyncio.wait_for(process.wait(), 60) == 0
