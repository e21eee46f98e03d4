"""Destinations that are servers in processes of their own, InfluxDB and Redis: killed, frozen, and without rights."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from app.local.servers.influxdb import InfluxDb
from app.local.servers.redis import Redis
from tools.faults.away import family
from tools.faults.sinks.found import Audit, FoundReading, Times
from tools.faults.stream import Stream


class _Server(ABC):
    """A server with an account `writer`, whose rights a fault takes away."""

    def __init__(self, server: Redis | InfluxDb) -> None:
        self.server = server

    async def start(self) -> None:
        """Start the destination; the destination accepts writes when this returns."""
        await self._run()
        await self._make_account()

    async def stop(self) -> None:
        """Stop the destination for good."""
        await asyncio.to_thread(self.server.stop)

    async def leave(self, how: str) -> None:
        """Inflict the fault `how` on the destination."""
        match how:
            case "killed":
                self.server.kill()
            case "frozen":
                freeze(self.server)
            case _:
                await self._forbid()

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        match how:
            case "killed":
                await self._run()
            case "frozen":
                thaw(self.server)
            case _:
                await self._allow()

    async def _run(self) -> None:
        self.server.start()
        await asyncio.to_thread(self.server.wait_ready)

    @abstractmethod
    async def _make_account(self) -> None: ...

    @abstractmethod
    async def _allow(self) -> None: ...

    @abstractmethod
    async def _forbid(self) -> None: ...


class Influx(_Server):
    """InfluxDB 1 with an account that has all privileges on one database."""

    sink = "influx"

    server: InfluxDb

    def __init__(self, directory: Path) -> None:
        super().__init__(InfluxDb(directory / "influxdb"))

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        return {
            "influx_url": self.server.url, "influx_version": 1, "influx_bucket": self.server.database,
            "influx_username": "writer", "influx_password": self.server.password, "influx_sequence_id": "field",
            "influx_flush_ms": 200,
        }  # fmt: skip

    async def _make_account(self) -> None:
        await self._tell(f"CREATE USER writer WITH PASSWORD '{self.server.password}'")
        await self._allow()

    async def _allow(self) -> None:
        await self._tell(f"GRANT ALL ON {self.server.database} TO writer")

    async def _forbid(self) -> None:
        await self._tell(f"REVOKE ALL ON {self.server.database} FROM writer")

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare what the destination has with what was sent."""
        audit = Audit("influx", streams, times)
        statement = 'SELECT "device_id", "sequence_id", "temperature" FROM "telemetry"'
        (result,) = json.loads(await asyncio.to_thread(self.server.query, statement))["results"]
        rows = result["series"][0]["values"] if "series" in result else []
        audit.each_once([FoundReading(device, n, temperature) for _, device, n, temperature in rows])
        return audit

    async def _tell(self, statement: str) -> None:
        answer = json.loads(await asyncio.to_thread(self.server.query, statement))
        assert "error" not in answer["results"][0], answer


class RedisServer(_Server):
    """Redis with an account that may read and write."""

    sink = "redis"

    server: Redis

    def __init__(self, directory: Path) -> None:
        super().__init__(Redis(directory / "redis"))

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        server = self.server
        return {"redis_url": f"redis://writer:{server.password}@{server.host}:{server.port}/0"}

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        await super().come_back(how)
        if how == "killed":
            await self._make_account()  # Redis does not store its accounts

    async def _make_account(self) -> None:
        await self._writer("on", f">{self.server.password}", "~*", "+@all")

    async def _allow(self) -> None:
        await self._writer("+@all")

    async def _forbid(self) -> None:
        await self._writer("-@write")

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare what the destination has with what was sent."""
        audit = Audit("redis", streams, times)
        audit.the_last_of_each_device(await asyncio.to_thread(lambda: list(self._values())))
        return audit

    def _values(self) -> Iterator[FoundReading]:
        with redis.Redis.from_url(self.server.url) as client:
            for key in client.scan_iter(match="iot:*", _type="string"):
                value: Any = json.loads(client.get(key))
                yield FoundReading(value["device_id"], value["sequence_id"], value["temperature"])

    async def _writer(self, *rules: str) -> None:
        await asyncio.to_thread(self._set_writer, rules)

    def _set_writer(self, rules: Sequence[str]) -> None:
        with redis.Redis.from_url(self.server.url) as client:
            assert client.execute_command("ACL", "SETUSER", "writer", *rules) in (b"OK", True)


def freeze(server: Redis | InfluxDb) -> None:
    """Stop the server's process with SIGSTOP."""
    for each in family(server.process):
        each.suspend()


def thaw(server: Redis | InfluxDb) -> None:
    """Continue the server's process with SIGCONT."""
    for each in family(server.process):
        each.resume()
