"""Real workers, bridges and notifiers for a test: each a process of its own, with names no other test uses."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from app.kafka.access import Access
from app.kafka.topics import create, wanted
from app.local.layout import SINKS, WAYS
from app.settings import Settings
from tests.servers import MqttServer

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "worker": ["faust", "-A", "app", "worker", "-l", "warn", "--without-web"],
    "noting worker": ["tests.passed_files", "worker", "-l", "warn", "--without-web"],
    "bridge": ["app", "bridge"],
    "notifier": ["app", "notifier"],
    **{way: ["app", way] for way in WAYS},
    "ingest": ["app", "ingest", *(f"--{way}" for way in WAYS)],
    **{f"sink-{sink}": ["app", "sink", sink] for sink in SINKS},
}
STARTED = (
    "worker_starting", "notifier_started", "bridge_started", "gateways_started", "sinks_started",
)  # fmt: skip  # events with the metrics' port


class Running:
    """A program. It may be started again after `kill` or `stop`; its log goes on in the same file."""

    def __init__(self, program: str, name: str, directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self.state = directory / f"{name}.state"
        self._command = [sys.executable, "-m", *COMMANDS[program]]
        self._environment = {**os.environ, **environment, "IOT_STATE_DIR": str(self.state)}
        self._process: subprocess.Popen[bytes] | None = None
        self._from = 0  # where the log of the last start begins

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        assert not self.alive
        with self.log.open("ab") as log:
            self._from = log.tell()
            self._process = subprocess.Popen(self._command, env=self._environment, cwd=ROOT, stdout=log, stderr=log)

    def kill(self) -> None:
        """kill -9. Fails when it had ended by itself before."""
        assert self.alive, f"{self.name} ended by itself:\n{self.tail()}"
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = 30) -> float:
        """SIGTERM; the seconds it took. Fails when it did not end well."""
        assert self.alive, f"{self.name} ended by itself:\n{self.tail()}"
        assert self._process
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(seconds)
        if code == -signal.SIGTERM and not self.log.read_bytes()[self._from :].count(b"_start"):
            code = 0  # the program had not come so far as to handle signals
        assert code == 0, f"{self.name} ended with {code}:\n{self.tail()}"
        return time.monotonic() - began

    def close(self) -> None:
        """Be gone, whatever state it is in."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """Lose the local state, as a container on another machine would."""
        assert not self.alive
        shutil.rmtree(self.state, ignore_errors=True)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event, of all starts."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = (json.loads(line[line.find("{") :]) for line in lines if f'"event": "{name}"' in line)
        return [line for line in found if line.get("event") == name]

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text().splitlines()[-lines:])

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Status and body of its metrics server's page; (0, "") when nobody answers."""
        started = next((found for name in STARTED if (found := self.events(name))), None)
        if not started or not self.alive:
            return 0, ""
        url = f"http://127.0.0.1:{started[-1]['metrics_port']}{path}"
        try:
            async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def ready(self, seconds: float = 40) -> None:
        """Wait until /ready says yes. Fails at once when the process ends."""

        async def asked() -> bool:
            assert self.alive, f"{self.name} ended by itself:\n{self.tail()}"
            return (await self.get("/ready"))[0] == 200

        await until(asked, seconds, lambda: f"{self.name} is not ready:\n{self.tail()}")


@dataclass
class Site:
    """Servers, and this test's own names in them. `more` are further settings, without the prefix IOT_."""

    kafka: str
    database: str
    mqtt: MqttServer
    unique: str
    directory: Path
    more: Mapping[str, object] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, object]:
        """Settings by field name. Session timeout: the least that Kafka allows by default."""
        return {
            "app": self.unique,
            "kafka_broker": self.kafka,
            "kafka_topic": f"{self.unique}-stream",
            "kafka_dlq_topic": f"{self.unique}-dlq",
            "kafka_alerts_topic": f"{self.unique}-alerts",
            "kafka_session_timeout": 6,
            "database_url": self.database,
            "mqtt_host": self.mqtt.host,
            "mqtt_port": self.mqtt.port,
            "mqtt_username": self.mqtt.username,
            "mqtt_password": self.mqtt.password,
            "bridge_client_id": f"bridge-{self.unique}",
            "bridge_share": self.unique,
            "notifier_client_id": f"notifier-{self.unique}",
            "metrics_port": 0,
            "log_format": "json",
            "offline_after": 0,  # tests that count every alert ask for it where they want it
            **self.more,
        }

    @cached_property
    def settings(self) -> Settings:
        """The same as the programs see them."""
        return Settings(**self.values)  # type: ignore[arg-type]  # checked by pydantic

    async def prepare(self, rules: list[dict[str, object]]) -> None:
        """Make the topics, and the rules of the user `unique`."""
        await create(Access(self.kafka), wanted(self.settings), 1)
        await self.set_rules(rules)

    async def set_rules(self, rules: list[dict[str, object]]) -> None:
        """Write the user's rules into user_configs."""
        await self.fetch(
            "INSERT INTO user_configs (user_id, rules) VALUES ($1, $2) ON CONFLICT (user_id) DO UPDATE SET rules = $2",
            self.unique,
            json.dumps(rules),
        )

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """Rows of a statement."""
        connection = await asyncpg.connect(self.database)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    @contextmanager
    def program(self, program: str, name: str | None = None) -> Iterator[Running]:
        """A started program ("worker" or another of COMMANDS), gone afterwards; `name` distinguishes two."""
        environment = {f"IOT_{key.upper()}": str(value) for key, value in self.values.items()}
        made = Running(program, name or program, self.directory, environment)
        made.start()
        try:
            yield made
        finally:
            made.close()

    async def ends(self, topic: str | None = None) -> dict[int, int]:
        """End offset of each partition of a topic, the input topic by default."""
        async with AIOKafkaConsumer(bootstrap_servers=self.kafka) as consumer:
            return await self._ends(consumer, topic or self.settings.kafka_topic)

    async def committed(self, topic: str | None = None, group: str | None = None) -> dict[int, int]:
        """Committed offset of each partition that has one; the workers' by default."""
        async with self._admin() as admin:
            return await self._committed(admin, topic or self.settings.kafka_topic, group or self.settings.group_id)

    async def _ends(self, consumer: AIOKafkaConsumer, topic: str) -> dict[int, int]:
        partitions = [TopicPartition(topic, number) for number in range(self.settings.kafka_partitions)]
        return {tp.partition: end for tp, end in (await consumer.end_offsets(partitions)).items()}

    async def _committed(self, admin: AIOKafkaAdminClient, topic: str, group: str) -> dict[int, int]:
        found = await admin.list_consumer_group_offsets(group)
        return {tp.partition: meta.offset for tp, meta in found.items() if tp.topic == topic}

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """To be kept by those who ask again and again: a new one is ten times as dear as a question."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def committed_to(self, ends: Mapping[int, int], seconds: float = 60) -> float:
        """Wait until the workers have committed all of `ends`; the seconds it took."""
        began = time.monotonic()
        committed: dict[int, int] = {}
        async with self._admin() as admin:

            async def reached() -> bool:
                nonlocal committed
                committed = await self._committed(admin, self.settings.kafka_topic, self.settings.group_id)
                return all(committed.get(partition, 0) >= end for partition, end in ends.items())

            await until(reached, seconds, lambda: f"partition: (committed, wanted) {behind(committed, ends)}")
        return time.monotonic() - began

    async def settled_input(self, seconds: float = 60) -> None:
        """Wait until the workers have committed everything there is."""
        await self.committed_to(await self.ends(), seconds)

    async def settled(self, seconds: float = 60) -> None:
        """Wait until the workers and the notifier have committed everything there is."""
        await self.settled_input(seconds)
        topic, group = self.settings.kafka_alerts_topic, f"{self.settings.group_id}-notifier"
        async with self._admin() as admin, AIOKafkaConsumer(bootstrap_servers=self.kafka) as consumer:

            async def reported() -> bool:
                return not behind(await self._committed(admin, topic, group), await self._ends(consumer, topic))

            await until(reported, seconds, lambda: "the notifier has not committed all alerts")


def behind(committed: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """{partition: (committed, end)} of partitions that are not committed exactly to their end."""
    return {p: (committed.get(p, 0), end) for p, end in ends.items() if committed.get(p, 0) != end}


async def until(true: Callable[[], Awaitable[bool]], seconds: float, what: Callable[[], str]) -> None:
    """Ask every 0.1 s until the answer is yes; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what()}"
        await asyncio.sleep(0.1)
