"""`python -m tools.faults.rebalances --times 500`: the delay of a partition's last record after a rebalance.

Two workers. A member is removed from the group, in every other round a second member, possibly during the first
rebalance. During the rebalance every partition gets one record and no further record: only the end of the rebalance
makes a worker consume the record. A record is late when, between its send and its visible row, a worker had the
partition without a rebalance for more than `--within` seconds in all; thus a record that is stored only after a second
rebalance is late, too. Exit code 1 when a record was late.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.group import LeaveGroupRequest

from tests.conftest import INIT_SQL
from tests.servers import GivenMqtt, kafka, postgres, server_directory
from tests.workers import Running, Site, until
from tools.faults.load import RULES

WITHIN = 1.0
LOOK = 0.01  # seconds between two queries of the rows
SPREAD = 1.5  # seconds within which the second member is removed and the records are sent
LONGEST = 60.0


class Calm(NamedTuple):
    """The time between two rebalances at one worker, which has these partitions."""

    begin: float  # Unix seconds
    end: float  # infinity until the next rebalance begins
    partitions: Sequence[int]


class Late(NamedTuple):
    """The delay of one partition's record in one round: seconds in which a worker could have stored the record."""

    round: int
    partition: int
    seconds: float


class Log:
    """The rebalances in a worker's log; each read continues after the last."""

    def __init__(self, worker: Running) -> None:
        self._worker, self._read = worker, 0
        self.begun = 0
        self.calm = False
        self.partitions: Sequence[int] = ()  # the assignment since the last rebalance
        self.calms: list[Calm] = []

    def look(self) -> None:
        """Read the new lines of the log. Fails when the worker has ended."""
        assert self._worker.alive, f"{self._worker.name} ended by itself:\n{self._worker.tail()}"
        with self._worker.log.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for line in new[:whole].splitlines():
            if b'"event": "rebalance_begins"' in line:
                self.begun, self.calm = self.begun + 1, False
                if self.calms:
                    self.calms[-1] = self.calms[-1]._replace(end=min(self.calms[-1].end, _at(_read(line))))
            elif b'"event": "rebalance_ended"' in line:
                entry = _read(line)
                self.calm, self.partitions = True, entry["partitions"]
                self.calms.append(Calm(_at(entry), math.inf, self.partitions))


def _read(line: bytes) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(line[line.find(b"{") :]))


def _at(entry: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


def waited(calms: Iterable[Calm], partition: int, sent: float, stored: float) -> float:
    """The seconds between `sent` and `stored` in which a worker had the partition and no rebalance was running."""
    return sum(
        max(0.0, min(calm.end, stored) - max(calm.begin, sent)) for calm in calms if partition in calm.partitions
    )


class Round:
    """One rebalance with a record of each partition; `run` is called once per round."""

    def __init__(self, site: Site, workers: Sequence[Running], seed: int) -> None:
        self._site, self._chance = site, random.Random(seed)
        self._logs = [Log(worker) for worker in workers]
        self._devices = _devices(site)
        self._number = 0

    async def run(self, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer, rows: asyncpg.Connection) -> list[Late]:
        """Run a round; the delay of each partition's record."""
        self._number += 1
        await self._calm([log.begun for log in self._logs])
        before = [log.begun + 1 for log in self._logs]
        members = await self._members(admin)
        self._chance.shuffle(members)
        await self._throw_out(admin, members[0])
        second = self._throw_out(admin, members[1], self._chance.uniform(0, SPREAD)) if self._number % 2 else _nobody()
        sent, stored, _ = await asyncio.gather(self._send(producer), self._stored(rows), second)
        await self._calm(before)
        calms = [calm for log in self._logs for calm in log.calms]
        return [
            Late(self._number, partition, waited(calms, partition, sent[partition], at))
            for partition, at in sorted(stored.items())
        ]

    async def warm_up(self, producer: AIOKafkaProducer, rows: asyncpg.Connection) -> None:
        """Send a record to each partition without a rebalance: the first rows of a process take longer."""
        await self._calm([1] * len(self._logs))
        await self._send(producer)
        await self._stored(rows)

    async def _members(self, admin: AIOKafkaAdminClient) -> list[str]:
        group = self._site.settings.group_id
        found = await admin.describe_consumer_groups([group])
        return [member[0] for answer in found for described in answer.groups for member in described[5]]

    async def _throw_out(self, admin: AIOKafkaAdminClient, member: str, after: float = 0.0) -> None:
        """Remove a member from the group: the member rejoins after its next heartbeat, and the other members rejoin."""
        await asyncio.sleep(after)
        group, client = self._site.settings.group_id, admin._client
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        await client.send(node, LeaveGroupRequest(group, member), group=ConnectionGroup.COORDINATION)

    async def _send(self, producer: AIOKafkaProducer) -> Mapping[int, float]:
        """Send a record to each partition, all at a random moment of the rebalance; the time of each send."""
        await asyncio.sleep(self._chance.uniform(0, SPREAD))
        stamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        sent = {}
        for partition, device in self._devices.items():
            topic = f"users/{self._site.unique}/devices/{device}/telemetry"
            reading = {"time": stamp, "sequence_id": self._number, "temperature": 20}
            await producer.send_and_wait(
                self._site.settings.kafka_topic,
                json.dumps(reading).encode(),
                key=f"{self._site.unique}/{device}".encode(),
                headers=[("mqtt_topic", topic.encode())],
                partition=partition,
            )
            sent[partition] = time.time()
        return sent

    async def _stored(self, rows: asyncpg.Connection) -> Mapping[int, float]:
        """The time at which the row of each partition's record was visible."""
        of = {device: partition for partition, device in self._devices.items()}
        seen: dict[int, float] = {}
        deadline = time.monotonic() + LONGEST
        while len(seen) < len(of):
            sql = "SELECT device_id FROM raw_telemetry WHERE user_id = $1 AND sequence_id = $2"
            found = await rows.fetch(sql, self._site.unique, self._number)
            now = time.time()
            for row in found:
                seen.setdefault(of[row[0]], now)
            missing = sorted(set(of.values()) - seen.keys())
            assert time.monotonic() < deadline, f"round {self._number}: no row of partitions {missing}"
            await asyncio.sleep(LOOK)
        return seen

    async def _calm(self, begun: Sequence[int]) -> None:
        """Wait until each worker has begun `begun` rebalances, no rebalance runs, and each partition has one owner."""

        async def calm() -> bool:
            for log in self._logs:
                log.look()
            owned = [partition for log in self._logs for partition in log.partitions]
            once = sorted(owned) == sorted(self._devices)
            return once and all(log.calm and log.begun >= least for log, least in zip(self._logs, begun, strict=True))

        await until(calm, LONGEST, lambda: f"round {self._number}: {[vars(log) for log in self._logs]}")


async def _nobody() -> None:
    """Remove no second member, in every other round."""


def _devices(site: Site) -> Mapping[int, str]:
    """A device of each partition."""
    count = site.settings.kafka_partitions
    every, choose = list(range(count)), DefaultPartitioner()
    found: dict[int, str] = {}
    number = 0
    while len(found) < count:
        found.setdefault(choose(f"{site.unique}/t{number}".encode(), every, every), f"t{number}")
        number += 1
    return found


async def rebalances(site: Site, workers: Sequence[Running], times: int, seed: int, tell: bool = False) -> list[Late]:
    """Force `times` rebalances, one after another, of workers that are ready; the delays of all records."""
    found: list[Late] = []
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    rows = await asyncpg.connect(site.database)
    await admin.start()
    try:
        async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
            rounds = Round(site, workers, seed)
            await rounds.warm_up(producer, rows)
            for _ in range(times):
                some = await rounds.run(admin, producer, rows)
                found += some
                if tell:
                    worst = max(some, key=lambda late: late.seconds)
                    print(f"{worst.round}: {worst.seconds:.2f} s, partition {worst.partition}", flush=True)
    finally:
        await admin.close()
        await rows.close()
    return found


def report(found: Sequence[Late], within: float) -> tuple[str, int]:
    """(the result as text, the number of rebalances with a late record)."""
    worst: dict[int, float] = {}
    for late in found:
        worst[late.round] = max(worst.get(late.round, 0.0), late.seconds)
    many = sum(seconds > within for seconds in worst.values())
    times = sorted(worst.values())
    return (
        f"{len(times) - many} of {len(times)} rebalances: every partition's last record stored within {within:g} s "
        f"(median {statistics.median(times):.2f}, 99 % {times[int(len(times) * 0.99)]:.2f}, longest {times[-1]:.2f})"
    ), many


@asynccontextmanager
async def _scene(directory: Path) -> AsyncIterator[tuple[Site, list[Running]]]:
    with kafka() as broker, postgres() as server, ExitStack() as stack:
        for dsn, sql in (
            (server.dsn, "CREATE DATABASE rebalances"),
            (server.dsn_of("rebalances"), INIT_SQL.read_text()),
        ):
            connection = await asyncpg.connect(dsn)
            await connection.execute(sql)
            await connection.close()
        nobody = GivenMqtt("127.0.0.1", 1883, "", "")
        site = Site(broker.bootstrap, server.dsn_of("rebalances"), nobody, "rebalances", directory)
        await site.prepare(RULES)
        workers = [stack.enter_context(site.program("worker", name)) for name in ("one", "two")]
        for worker in workers:
            await worker.ready(LONGEST)
        yield site, workers


async def _measure(directory: Path, options: Any) -> int:
    async with _scene(directory) as (site, workers):
        found = await rebalances(site, workers, options.times, options.seed, tell=True)
    said, late = report(found, options.within)
    print(said)
    return 1 if late else 0


def main() -> None:
    """Run with the options of the command line; see the module's docstring."""
    parser = argparse.ArgumentParser("python -m tools.faults.rebalances", description=__doc__)
    parser.add_argument("--times", type=int, default=500, help="number of rebalances")
    parser.add_argument("--within", type=float, default=WITHIN, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a directory for the workers' logs")
    options = parser.parse_args()
    with server_directory() as directory:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
        sys.exit(asyncio.run(_measure(options.keep or directory, options)))


if __name__ == "__main__":
    main()
