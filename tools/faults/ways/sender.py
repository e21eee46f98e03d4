"""Who sends a stream by one way, at its pace, whatever happens to the gateway and to the servers meanwhile."""

import asyncio
import contextlib

from tools.faults.senders import Pace
from tools.faults.stream import Stream
from tools.faults.ways.links import GONE, wire
from tools.faults.ways.setup import Door
from tools.faults.ways.streams import WayStream

BATCH = 200  # messages that are under way at most
AGAIN = 0.2  # seconds between two tries


async def send_over(stream: Stream, door: Door, pace: Pace) -> None:
    """In order, and again from the first that was not answered. Until cancelled.

    While `pace.again` is set, each batch is sent twice, the second time though it was answered.
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
