"""Destinations of sinks: a real server or directory for each sink, with its faults and the audit of its contents."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
import pyarrow.parquet as pq
import redis

from app.local.layout import SINKS
from app.local.servers.influxdb import InfluxDb
from app.local.servers.redis import Redis
from tests.receivers.grpc_receiver import Acks, Ends, GrpcReceiver
from tests.receivers.http_receiver import Answer, HttpReceiver
from tools.faults.away import family
from tools.faults.sinks.found import Audit, FoundReading, Times
from tools.faults.stream import Stream

NEVER = 3600.0  # seconds
COLUMNS = ["user_id", "device_id", "sequence_id", "temperature", "kafka_partition", "kafka_offset"]
RIGHTS = "without rights"  # of the writing account
# The faults of each destination. A directory has no process; a file replaces the directory.
HURTS = {sink: ("killed", "frozen", RIGHTS) for sink in SINKS} | {"parquet": (RIGHTS,)}


class Destination(Protocol):
    """The destination of one sink."""

    sink: str  # a name of SINKS

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes to the destination."""

    async def start(self) -> None:
        """Start the destination and wait until it is ready."""

    async def stop(self) -> None:
        """Stop the destination for good."""

    async def leave(self, how: str) -> None:
        """Make the destination fail with a fault `how` of HURTS."""

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare the contents with the messages on the input topic."""


class ParquetFiles:
    """A directory of Parquet files."""

    sink = "parquet"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        return {"parquet_dir": str(self.directory), "parquet_rotate_seconds": 1, "parquet_compression": "zstd"}

    async def start(self) -> None:
        """Start the destination; the destination accepts writes when this returns."""
        return

    async def stop(self) -> None:
        """Stop the destination for good."""
        return

    async def leave(self, how: str) -> None:
        """Replace the directory by a file, so that no account can write to it, not even root."""
        self.directory.rename(self.directory.with_suffix(".away"))
        self.directory.write_text("")

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        self.directory.unlink()
        self.directory.with_suffix(".away").rename(self.directory)

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare what the destination has with what was sent."""
        audit, places = Audit("parquet", streams, times), Counter[tuple[str, int, int]]()
        found = await asyncio.to_thread(lambda: list(self._rows(places)))
        audit.each_as_often_as_on_the_topic(found)
        audit.problem("doubled offsets", (place for place, count in places.items() if count > 1))
        return audit

    def _rows(self, places: Counter[tuple[str, int, int]]) -> Iterator[FoundReading]:
        """The rows of all files; counts each record in `places` by (topic's tag in file name, partition, offset)."""
        for path in self.directory.glob("day=*/*.parquet"):
            log = path.name.rsplit("-", 3)[0]  # a recreated topic counts from 0 again
            for row in pq.ParquetFile(path).read(COLUMNS).to_pylist():
                places[log, row["kafka_partition"], row["kafka_offset"]] += 1
                yield FoundReading(row["device_id"], row["sequence_id"], row["temperature"])


class Influx:
    """InfluxDB 1 with an account that has all privileges on one database."""

    sink = "influx"

    def __init__(self, directory: Path) -> None:
        self.server = InfluxDb(directory / "influxdb")

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        return {
            "influx_url": self.server.url, "influx_version": 1, "influx_bucket": self.server.database,
            "influx_username": "writer", "influx_password": self.server.password, "influx_sequence_id": "field",
            "influx_flush_ms": 200,
        }  # fmt: skip

    async def start(self) -> None:
        """Start the destination; the destination accepts writes when this returns."""
        self.server.start()
        await asyncio.to_thread(self.server.wait_ready)
        await self._tell(f"CREATE USER writer WITH PASSWORD '{self.server.password}'")
        await self._tell(f"GRANT ALL ON {self.server.database} TO writer")

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
                await self._tell(f"REVOKE ALL ON {self.server.database} FROM writer")

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        match how:
            case "killed":
                self.server.start()
                await asyncio.to_thread(self.server.wait_ready)
            case "frozen":
                thaw(self.server)
            case _:
                await self._tell(f"GRANT ALL ON {self.server.database} TO writer")

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


class RedisServer:
    """Redis with an account that may read and write."""

    sink = "redis"

    def __init__(self, directory: Path) -> None:
        self.server = Redis(directory / "redis")

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        server = self.server
        return {"redis_url": f"redis://writer:{server.password}@{server.host}:{server.port}/0"}

    async def start(self) -> None:
        """Start the destination; the destination accepts writes when this returns."""
        self.server.start()
        await asyncio.to_thread(self.server.wait_ready)
        self._writer("on", f">{self.server.password}", "~*", "+@all")

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
                self._writer("-@write")

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        match how:
            case "killed":
                await self.start()  # Redis does not store its accounts
            case "frozen":
                thaw(self.server)
            case _:
                self._writer("+@all")

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

    def _writer(self, *rules: str) -> None:
        with redis.Redis.from_url(self.server.url) as client:
            assert client.execute_command("ACL", "SETUSER", "writer", *rules) in (b"OK", True)


class HttpFeed:
    """A receiver of the HTTP feed in this process."""

    sink = "http_feed"

    def __init__(self) -> None:
        self.receiver = HttpReceiver()

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        return {"feed_url": self.receiver.url, "feed_token": "a token of the fault tests", "feed_flush_ms": 100}

    async def start(self) -> None:
        """Start the destination; the destination accepts writes when this returns."""
        await self.receiver.start()

    async def stop(self) -> None:
        """Stop the destination for good."""
        await self.receiver.stop()

    async def leave(self, how: str) -> None:
        """Inflict the fault `how` on the destination."""
        match how:
            case "killed":
                await self.receiver.stop()
            case "frozen":
                self.receiver.judge = lambda _: Answer(503, taken=False, seconds=NEVER)
            case _:
                self.receiver.judge = lambda _: Answer(403)

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        self.receiver.judge = lambda _: None
        if how == "frozen":
            await self.receiver.stop()
        if how in ("killed", "frozen"):
            await self.receiver.start()

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare what the destination has with what was sent."""
        audit = Audit("http_feed", streams, times)
        found = [
            FoundReading(one.get("device_id") or one["sensor_id"], one["sequence_id"], one["temperature"])
            for one in self.receiver.taken
        ]
        audit.each_at_least_once_and_in_order(found)
        return audit


class GrpcFeed:
    """A receiver of gRPC in this process."""

    sink = "grpc"

    def __init__(self) -> None:
        self.receiver = GrpcReceiver()

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the sink that writes there."""
        return {"grpc_push_target": self.receiver.target}

    async def start(self) -> None:
        """Start the destination; the destination accepts writes when this returns."""
        await self.receiver.start()

    async def stop(self) -> None:
        """Stop the destination for good."""
        await self.receiver.stop()

    async def leave(self, how: str) -> None:
        """Inflict the fault `how` on the destination."""
        match how:
            case "killed":
                await self.receiver.stop()
            case "frozen":
                self.receiver.judge = lambda _: Acks(silent=True)
            case _:
                self.receiver.judge = lambda _: Ends(grpc.StatusCode.PERMISSION_DENIED)

    async def come_back(self, how: str) -> None:
        """End the fault `how`; the contents are as before."""
        self.receiver.judge = lambda _: None
        if how == "frozen":
            await self.receiver.stop()
        if how in ("killed", "frozen"):
            await self.receiver.start()

    async def audit(self, streams: Sequence[Stream], times: Times) -> Audit:
        """Compare what the destination has with what was sent."""
        audit = Audit("grpc", streams, times)
        audit.each_at_least_once_and_in_order([_pushed(one) for one in self.receiver.taken])
        return audit


def _pushed(item: Any) -> FoundReading:
    """The reading in an Event, or in a Metric that has the temperature in its extra fields."""
    if item.DESCRIPTOR.name == "Event":
        return FoundReading(item.device_id, item.sequence_id, item.temperature)
    return FoundReading(item.sensor_id, item.sequence_id, json.loads(item.extra_json)["temperature"])


def freeze(server: Redis | InfluxDb) -> None:
    """Stop the server's process with SIGSTOP."""
    for each in family(server.process):
        each.suspend()


def thaw(server: Redis | InfluxDb) -> None:
    """Continue the server's process with SIGCONT."""
    for each in family(server.process):
        each.resume()


def destination(sink: str, directory: Path) -> Destination:
    """The destination of a sink, not started; `directory` is for this destination alone."""
    match sink:
        case "parquet":
            return ParquetFiles(directory / "parquet")
        case "influx":
            return Influx(directory)
        case "redis":
            return RedisServer(directory)
        case "http_feed":
            return HttpFeed()
        case "grpc":
            return GrpcFeed()
    raise AssertionError(f"{sink} is none of {SINKS}")
