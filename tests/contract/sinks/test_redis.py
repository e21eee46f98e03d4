"""The contract of all sinks, on a real Redis with streams, which have each reading."""

import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from app.settings import Settings
from app.sinks.port import Sink
from app.sinks.record import SinkRecord
from app.sinks.redis.sink import RedisSink
from tests.contract.sinks.suite import SinkContract
from tests.servers import server_directory
from tests.sink_readings import sink_record
from tests.sink_servers import RedisServer, running

pytestmark = pytest.mark.integration


class InRedis:
    """The keys of a test on a server."""

    tells_repeats, keeps_offsets = True, False

    def __init__(self, server: RedisServer, unique: str) -> None:
        self._server, self._prefix = server, f"{unique}:"
        self.client = Redis(port=server.port)

    def sink(self) -> Sink:
        values: dict[str, Any] = {"redis_url": self._server.url, "redis_prefix": self._prefix, "redis_timeout": 1.0}
        return RedisSink("redis", Settings(_env_file=None, redis_stream_max=10_000, **values))

    async def times(self, records: Sequence[SinkRecord]) -> list[int]:
        found: Counter[tuple[str, str, int]] = Counter()
        for user in {record.user_id for record in records}:
            for _, fields in await self.client.xrange(f"{self._prefix}stream:{user}"):
                value = json.loads(fields[b"reading"])
                found[value["user_id"], value["device_id"], value["sequence_id"]] += 1
        await self._values_are_the_newest(records, found)
        return [found[one.user_id, one.device_id, one.reading.sequence_id] for one in records]

    async def _values_are_the_newest(self, records: Sequence[SinkRecord], found: Counter[tuple[str, str, int]]) -> None:
        newest: dict[str, SinkRecord] = {}
        for one in records:
            if found[one.user_id, one.device_id, one.reading.sequence_id]:
                known = newest.setdefault(one.key, one)
                newest[one.key] = max(known, one, key=lambda each: (each.reading.time, each.reading.sequence_id))
        for key, one in newest.items():
            value = json.loads(await self.client.get(f"{self._prefix}last:{key}") or b"null")
            assert value["sequence_id"] == one.reading.sequence_id, key

    async def away(self) -> None:
        self._server.process.signal(signal.SIGSTOP)

    async def back(self) -> None:
        self._server.process.signal(signal.SIGCONT)

    def poison(self, record: SinkRecord) -> SinkRecord | None:
        """A record of the device `taken`, whose key has another type."""
        return sink_record(record.offset, user=record.user_id, device="taken", partition=record.partition)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with server_directory() as directory, running(RedisServer(directory)) as made:
        yield made


@pytest.fixture
async def destination(server: RedisServer, unique: str) -> AsyncIterator[InRedis]:
    made = InRedis(server, unique)
    for user in ("u0", "u1"):
        await made.client.execute_command("LPUSH", f"{unique}:last:{user}/taken", "something else")  # type: ignore[no-untyped-call]
    yield made
    await made.back()
    await made.client.aclose()


class TestRedis(SinkContract):
    """The suite."""
