"""The sender of a stream to one gateway at a pace, through all faults of the gateway and of the servers."""

import asyncio
import contextlib

from tools.faults.senders import Pace
from tools.faults.stream import Stream
from tools.faults.ways.links import GONE, wire
from tools.faults.ways.setup import Door
from tools.faults.ways.streams import WayStream

BATCH = 200  # maximum messages in flight
AGAIN = 0.2  # seconds between two attempts


async def send_over(stream: Stream, door: Door, pace: Pace) -> None:
    """Send in order until cancelled, after a failure again from the first unanswered message.

    While `pace.again` is set, each batch is sent twice, the second time after its answer.
    """
    assert isinstance(stream, WayStream)
    while True:
        with contextlib.suppress(*GONE):
            async with wire(stream.way, door) as made:
                pace.next = stream.sent
                async for due in pace.ticks():
                    numbers = range(pace.next, pace.next + min(due, BATCH))
                    pace.next = numbers.stop
                    await made.push(stream, numbers)
                    stream.sent = numbers.stop
                    if pace.again:
                        await made.push(stream, numbers)
        await asyncio.sleep(AGAIN)
