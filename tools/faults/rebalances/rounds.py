"""Rounds of a rebalance by force and one record of each partition; the delays of the records."""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.group import LeaveGroupRequest

from tests.workers import Running, Site, until
from tools.faults.rebalances.delays import Late, waited
from tools.faults.rebalances.log import Log

LOOK = 0.01  # seconds between two queries of the rows
SPREAD = 1.5  # seconds within which the second member is removed and the records are sent
LONGEST = 60.0


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
        """The time of the last look at which the row of each partition's record was not visible.

        The row became visible within LOOK after that, or later by as much as this program itself was held up, for which
        the worker is not to blame.
        """
        of = {device: partition for partition, device in self._devices.items()}
        seen: dict[int, float] = {}
        looked = time.time()
        deadline = time.monotonic() + LONGEST
        while len(seen) < len(of):
            sql = "SELECT device_id FROM raw_telemetry WHERE user_id = $1 AND sequence_id = $2"
            asked = time.time()
            for row in await rows.fetch(sql, self._site.unique, self._number):
                seen.setdefault(of[row[0]], looked)
            looked = asked
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
