"""Destinations of sinks: a real server or directory for each sink, with its faults and the audit of its contents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from app.local.layout import SINKS
from tools.faults.sinks.found import Audit, Times
from tools.faults.sinks.parquet_files import ParquetFiles
from tools.faults.sinks.receivers import GrpcFeed, HttpFeed
from tools.faults.sinks.servers import Influx, RedisServer
from tools.faults.stream import Stream

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
