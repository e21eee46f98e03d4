"""The running setup of a run: servers behind proxies, programs, senders and auditors."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from tests.workers import Running, Site
from tools.faults.clocks import Clock
from tools.faults.load import RULES
from tools.faults.mqtt import Ear
from tools.faults.schedule import sink_name
from tools.faults.senders import Pace, send_to_kafka, send_to_mqtt
from tools.faults.servers import Servers, servers
from tools.faults.sinks.destinations import Destination, destination
from tools.faults.stream import Stream
from tools.faults.tail import Tail
from tools.faults.ways.sender import send_over
from tools.faults.ways.setup import Door, door, open_account
from tools.faults.ways.streams import WayStream

PROGRAMS = {"worker 1": "worker", "worker 2": "worker", "bridge": "bridge", "notifier": "notifier"}
DEVICES = 48  # devices of each stream
YOUNG = timedelta(days=1)  # age of the first reading, so that no jump of a clock moves a reading into the future
# Breaker: the default first wait, but at most 10 s, so that a run of 100 faults ends within an hour.
# Share: Mosquitto loses shared subscriptions when Mosquitto restarts.
SETTINGS = {"breaker_reset_min": 2, "breaker_reset_max": 10, "bridge_share": "-", "sink_retry_max": 5}


@dataclass
class Rig:
    """The targets of faults, and the auditors."""

    servers: Servers
    site: Site
    programs: dict[str, Running]
    clocks: dict[str, Clock]  # by program; empty on machines where clocks cannot jump
    mqtt: Pace
    kafka: Pace
    tail: Tail
    ear: Ear
    door: Door  # addresses and account at the gateways
    ways: dict[str, Pace] = field(default_factory=dict)  # by gateway
    sinks: dict[str, Destination] = field(default_factory=dict)  # by the name of the sink's program
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def paces(self) -> list[Pace]:
        """The paces of all senders."""
        return [self.mqtt, self.kafka, *self.ways.values()]

    @property
    def streams(self) -> list[Stream]:
        """The streams of all senders."""
        return [pace.stream for pace in self.paces]

    @property
    def sent(self) -> int:
        """The number of messages sent and acknowledged so far."""
        return sum(stream.sent for stream in self.streams)

    @property
    def sink_groups(self) -> dict[str, str]:
        """The consumer group of each sink, by the name of its program."""
        return {name: f"{self.site.settings.group_id}-sink-{one.sink}" for name, one in self.sinks.items()}

    def check(self) -> None:
        """Raise what a sender or an auditor raised."""
        for task in self.tasks:
            if task.done():
                task.result()


@asynccontextmanager
async def rig(
    directory: Path, seed: int, unique: str, *, clocks: bool, ways: Sequence[str] = (), sinks: Sequence[str] = ()
) -> AsyncIterator[Rig]:
    """A ready rig with these gateways and sinks, stopped afterwards. Logs of the programs are in `directory`, data of
    the servers in its subdirectories.
    """
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(servers(directory / "servers"))
        entrance = door(unique, directory / "ways")
        more = dict[str, object](entrance.settings if ways else {})
        out = {sink_name(sink): destination(sink, directory / "servers") for sink in sinks}
        for one in out.values():
            stack.push_async_callback(one.stop)
            await one.start()
            more |= one.settings
        site = await made.site(unique, directory, **{**SETTINGS, **more})
        await site.prepare(RULES)
        await open_account(site)
        begin = (datetime.now(UTC) - YOUNG).replace(microsecond=1)  # never 0: alert events omit a fraction of 0
        streams = [Stream(letter, unique, DEVICES, seed, begin) for letter in "mk"]
        by_way = {way: WayStream(way, unique, DEVICES, seed, begin) for way in ways}
        names = (*PROGRAMS, *ways, *out)
        skewed = {name: Clock(directory, name) for name in names} if clocks else {}
        programs = {name: program(site, name, skewed.get(name)) for name in names}
        ear, tail = Ear(site.mqtt, unique), Tail(site, [*streams, *by_way.values()])
        found = Rig(made, site, programs, skewed, Pace(streams[0]), Pace(streams[1]), tail, ear, entrance)
        found.ways, found.sinks = {way: Pace(stream) for way, stream in by_way.items()}, out
        stack.push_async_callback(_close, found)
        await _begin(found)
        yield found


async def _begin(rig: Rig) -> None:
    rig.tasks.append(asyncio.create_task(rig.ear.run()))
    await asyncio.wait_for(rig.ear.listening.wait(), 20)
    for one in rig.programs.values():
        one.start()
    for one in rig.programs.values():
        await one.ready(90)
    rig.tasks += [
        asyncio.create_task(rig.tail.run()),
        asyncio.create_task(send_to_kafka(rig.site, rig.kafka)),
        asyncio.create_task(send_to_mqtt(rig.site.mqtt, rig.site.unique, rig.mqtt)),
        *(asyncio.create_task(send_over(pace.stream, rig.door, pace)) for pace in rig.ways.values()),
    ]


async def _close(rig: Rig) -> None:
    for task in rig.tasks:
        task.cancel()
    await asyncio.gather(*rig.tasks, return_exceptions=True)
    for one in rig.programs.values():
        if one.alive:
            os.kill(one.pid, signal.SIGCONT)
        one.close()
    for server in rig.servers.by_name.values():
        with contextlib.suppress(ProcessLookupError):
            for pid in tree(server.pid):
                os.kill(pid, signal.SIGCONT)


def program(site: Site, name: str, clock: Clock | None) -> Running:
    """A program of the rig, not started."""
    environment = {f"IOT_{key.upper()}": str(value) for key, value in site.values.items()}
    return Running(
        PROGRAMS.get(name, name.replace(" ", "-")),
        name.replace(" ", ""),
        site.directory,
        environment | (clock.environment if clock else {}),
    )


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]
