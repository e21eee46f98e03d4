"""`python -m tools.faults.takeover`: how long partitions stall when one of two workers stops and returns.

A steady load and two workers on an otherwise idle machine; each case runs several times. The figures come from the
stored rows, not from the workers.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg
from aiokafka.partitioner import DefaultPartitioner

from tests.conftest import INIT_SQL
from tests.servers import GivenMqtt, kafka, postgres, server_directory
from tests.workers import Running, Site, until
from tools.audit import Sent
from tools.faults.load import DEVICES, RULES, load

RATE = 1000  # messages a second
LOOK = 0.05  # seconds between two queries of the rows
AGAIN = 4.0  # seconds until a killed worker is restarted
REST = 3.0  # seconds of normal operation before each case
LONGEST = 120.0
NEWEST = "SELECT device_id, max(sequence_id) FROM raw_telemetry WHERE time >= $1 GROUP BY device_id"


class Times(NamedTuple):
    """The seconds measured in a case."""

    again: float  # from the start of the case until each partition has stored a later message
    still: float  # the longest stall of a partition, until both workers were ready and all partitions stored
    rest: float  # the longest stall of a partition of the other worker
    whole: float  # from the start of the case until both workers were ready and all partitions stored


class Watch:
    """Notes the times at which partitions get new rows."""

    def __init__(self, site: Site, sent: Sequence[Sent]) -> None:
        """`sent` grows during the load."""
        self._site, self._sent = site, sent
        self._parts: dict[str, int] = {}
        self._stored: dict[int, int] = {}  # by partition: the highest number with a row
        self._moved: dict[int, float] = {}  # by partition: the time of that row
        self._still: dict[int, float] = {}  # by partition: the longest time between two new rows

    async def run(self) -> None:
        """Query new rows until cancelled."""
        connection = await asyncpg.connect(self._site.database)
        since = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
        while True:
            rows = await connection.fetch(NEWEST, since)
            now = time.monotonic()
            for device, number in rows:
                part = self._partition(device)
                if number > self._stored.get(part, -1):
                    self._still[part] = max(self._still.get(part, 0.0), now - self._moved.get(part, now))
                    self._stored[part], self._moved[part] = number, now
            if self._stored:
                since = self._time(min(self._stored.values()))
            await asyncio.sleep(LOOK)

    def forget(self) -> None:
        """Discard the stalls measured so far."""
        self._still.clear()

    def still(self, among: Collection[int] | None = None) -> float:
        """The longest stall of a partition in `among`, or of all partitions."""
        now = time.monotonic()
        return max(
            max(self._still.get(part, 0.0), now - at)
            for part, at in self._moved.items()
            if among is None or part in among
        )

    @property
    def next(self) -> int:
        """The number of the next round of messages; a round has one message of each device."""
        return len(self._sent) // DEVICES + 1

    async def stored(self, number: int) -> None:
        """Wait until each partition has a row with this number or a higher number."""

        async def all_have() -> bool:
            return all(stored >= number for stored in self._stored.values())

        await until(all_have, LONGEST, lambda: f"stored by partition: {self._stored}; wanted {number}")

    def _partition(self, device: str) -> int:
        if device not in self._parts:
            count = self._site.settings.kafka_partitions
            key = f"{self._site.unique}/{device}".encode()
            self._parts[device] = DefaultPartitioner()(key, list(range(count)), list(range(count)))
        return self._parts[device]

    def _time(self, number: int) -> datetime:
        return datetime.fromisoformat(self._sent[number * DEVICES].payload.decode().split('"')[3])


@dataclass
class Scene:
    """Two workers under load, and the watch of their rows."""

    stays: Running
    goes: Running
    watch: Watch

    async def stored(self) -> None:
        """Wait until each partition has stored a message that is sent after this call."""
        await self.watch.stored(self.watch.next)


async def killed(scene: Scene) -> None:
    """kill -9 of one of two"""
    scene.goes.kill()
    await scene.stored()
    scene.goes.start()


async def killed_and_started(scene: Scene) -> None:
    """kill -9, started again 4 s later"""
    scene.goes.kill()
    await asyncio.sleep(AGAIN)
    scene.goes.start()


async def restarted(scene: Scene) -> None:
    """SIGTERM, started again at once"""
    await asyncio.to_thread(scene.goes.stop)
    scene.goes.start()


CASES = (killed, killed_and_started, restarted)


async def times(scene: Scene, case: Callable[[Scene], Awaitable[None]]) -> Times:
    """Run a case, and wait until both workers are ready and all partitions store."""
    await asyncio.sleep(REST)
    scene.watch.forget()
    began, number = time.monotonic(), scene.watch.next
    rest = scene.stays.events("rebalance_ended")[-1]["partitions"]
    again = asyncio.create_task(scene.watch.stored(number))
    again_at = asyncio.create_task(_when(again))
    await case(scene)
    await scene.goes.ready(LONGEST)
    await scene.stays.ready(LONGEST)
    await scene.stored()
    watch = scene.watch
    return Times(await again_at - began, watch.still(), watch.still(rest), time.monotonic() - began)


async def _when(task: "asyncio.Task[None]") -> float:
    await task
    return time.monotonic()


@asynccontextmanager
async def scene(directory: Path, *, named: bool) -> AsyncIterator[Scene]:
    """Servers, two ready workers and the load, all stopped afterwards. `named`: the workers are static members."""
    with kafka() as broker, postgres() as server:
        await _execute(server.dsn, "CREATE DATABASE takeover")
        await _execute(server.dsn_of("takeover"), INIT_SQL.read_text())
        nobody = GivenMqtt("127.0.0.1", 1883, "", "")
        site = Site(broker.bootstrap, server.dsn_of("takeover"), nobody, "takeover", directory)
        await site.prepare(RULES)
        with closing(worker(site, "stays", named=named)) as stays, closing(worker(site, "goes", named=named)) as goes:
            stays.start()
            goes.start()
            await asyncio.gather(stays.ready(), goes.ready())
            async with load(site, RATE) as sent:
                watch = Watch(site, sent)
                watching = asyncio.create_task(watch.run())
                await asyncio.sleep(REST)
                await watch.stored(watch.next)
                yield Scene(stays, goes, watch)
                watching.cancel()


def worker(site: Site, name: str, *, named: bool) -> Running:
    """A worker, not started; `named`: a static member of its group."""
    settings = {**site.values, **({"kafka_instance_id": name} if named else {})}
    return Running(
        "worker", name, site.directory, {f"IOT_{key.upper()}": str(value) for key, value in settings.items()}
    )


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(sql)
    await connection.close()


async def measure(directory: Path, rounds: int, *, named: bool) -> None:
    """Run all cases and print a table of their times."""
    found: dict[str, list[Times]] = {}
    async with scene(directory, named=named) as made:
        for number in range(rounds):
            for case in CASES:
                took = await times(made, case)
                found.setdefault(str(case.__doc__), []).append(took)
                print(f"{time.strftime('%H:%M:%S')} {number} {case.__doc__}: {took}", flush=True)
    print(table(found))


def table(found: dict[str, list[Times]]) -> str:
    """The median (and maximum) seconds of each case, as a table in Markdown."""
    lines = [
        "| case | times | all partitions store again | longest standstill of a partition | of the other worker's "
        "| all as before |"
    ]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, several in found.items():
        cells = [f"{statistics.median(one):.1f} ({max(one):.1f})" for one in zip(*several, strict=True)]
        lines.append(f"| {name} | {len(several)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run with the options of the command line; see the module's docstring."""
    parser = argparse.ArgumentParser("python -m tools.faults.takeover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of runs of each case")
    parser.add_argument("--named", action="store_true", help="workers with IOT_KAFKA_INSTANCE_ID")
    parser.add_argument("--keep", type=Path, help="a directory for the workers' logs")
    options = parser.parse_args()
    with server_directory() as directory:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
        asyncio.run(measure(options.keep or directory, options.rounds, named=options.named))


if __name__ == "__main__":
    main()
