"""The recovery of a run from a fault: a message sent after the fault is a row, in every partition."""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime

import asyncpg

from tools.faults.rig import Rig
from tools.faults.stream import Stream

LONGEST = 120.0  # maximum seconds until recovery
LOOK = 0.05  # seconds between two queries
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)

FLOWS = """SELECT DISTINCT device_id FROM raw_telemetry
WHERE time >= $1 AND sequence_id >= $2 AND device_id LIKE $3"""


def marks(rig: Rig) -> dict[str, int]:
    """The number of each stream's next message, by the stream's letter."""
    return {pace.stream.letter: pace.next for pace in rig.paces}


async def recovered(rig: Rig, since: Mapping[str, int], *, reported: bool) -> float:
    """Wait until messages from `since` on are rows in all partitions; the seconds until then.

    With `reported`, also wait for an alert of a reading from `since` on. Raises TimeoutError after LONGEST.
    """
    began = time.monotonic()
    async with asyncio.timeout(LONGEST):
        waiting = list(rig.streams)
        while waiting:
            rig.check()
            waiting = [stream for stream in waiting if not await _flows(rig, stream, since[stream.letter])]
            await asyncio.sleep(LOOK)
        stamp = min(stream.stamp(since[stream.letter]) for stream in rig.streams)
        while reported and not any(one.event_time >= stamp for one in rig.ear.heard[-500:]):  # noqa: ASYNC110 - a list
            await asyncio.sleep(LOOK)
    return time.monotonic() - began


async def whole(rig: Rig) -> None:
    """Wait until all programs are ready and rows are stored again, so that the next fault starts undisturbed."""
    async with asyncio.timeout(LONGEST):
        waiting = list(rig.programs.values())
        while waiting:
            waiting = [one for one in waiting if (await one.get("/ready"))[0] != 200]
            await asyncio.sleep(LOOK)
    await recovered(rig, marks(rig), reported=False)


async def _flows(rig: Rig, stream: Stream, since: int) -> bool:
    partitions = {part for device, part in rig.tail.partition.items() if device[0] == stream.letter}
    try:
        async with asyncio.timeout(5):
            rows = await rig.site.fetch(FLOWS, stream.time(since), since, f"{stream.letter}%")
    except AWAY:
        return False
    return {rig.tail.partition.get(row[0]) for row in rows} >= partitions


def back_off(rig: Rig) -> float:
    """The remaining seconds of the workers' open breakers; 0 when all breakers are closed."""
    now = time.time()
    return max(0.0, *(_breaker(rig, name) - now for name in ("worker 1", "worker 2")))


def _breaker(rig: Rig, name: str) -> float:
    """The time at which the open breaker closes, in seconds since 1970; 0 for a closed breaker."""
    one = rig.programs[name]
    opened, closed = one.events("circuit_breaker_OPENED"), one.events("circuit_breaker_CLOSED")
    if not opened or (closed and closed[-1]["timestamp"] > opened[-1]["timestamp"]):
        return 0.0
    since = datetime.fromisoformat(opened[-1]["timestamp"].replace("Z", "+00:00"))
    return since.timestamp() + float(opened[-1]["retry_in_seconds"])
