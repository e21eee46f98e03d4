"""The contract of all sinks, on a real InfluxDB 1, and on VictoriaMetrics where it is built."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from app.settings import Settings
from app.sinks.influx.sink import InfluxSink
from app.sinks.port import Sink
from app.sinks.record import SinkRecord
from tests.contract.sinks.suite import SinkContract
from tests.servers import server_directory
from tests.sink_readings import START, sink_record
from tests.sink_servers import InfluxServer, VictoriaServer, running

pytestmark = pytest.mark.integration


class OnServer:
    """The measurement of a test on a server."""

    keeps_offsets = False

    def __init__(self, server: InfluxServer | VictoriaServer, unique: str) -> None:
        self._server, self._measurement = server, unique
        self.tells_repeats = isinstance(server, InfluxServer)  # VictoriaMetrics needs a setting for this
        self._is_poisoned = False

    def sink(self) -> Sink:
        return InfluxSink("influx", Settings(_env_file=None, **self._values()))

    def _values(self) -> dict[str, Any]:
        version = 1 if isinstance(self._server, InfluxServer) else 2
        known = {"influx_url": self._server.url, "influx_version": version, "influx_timeout": 1.0}
        return known | {"influx_measurement": self._measurement, "influx_sequence_id": "field"}

    async def times(self, records: Sequence[SinkRecord]) -> list[int]:
        found = await asyncio.to_thread(self._found)
        return [found[one.user_id, one.device_id, one.reading.sequence_id] for one in records]

    def _found(self) -> Counter[tuple[str, str, int]]:
        server = self._server
        if isinstance(server, InfluxServer):
            points = server.points(self._measurement)
            return Counter((one["user_id"], one["device_id"], one["sequence_id"]) for one in points)
        return Counter(
            (labels["user_id"], labels["device_id"], int(value))
            for labels, samples in server.series(f"{self._measurement}_sequence_id")
            for value, _ in samples
        )

    async def away(self) -> None:
        self._server.process.signal(signal.SIGSTOP)

    async def back(self) -> None:
        self._server.process.signal(signal.SIGCONT)

    def poison(self, record: SinkRecord) -> SinkRecord | None:
        """A text in a field that is a number on the server."""
        if not isinstance(self._server, InfluxServer):
            return None  # VictoriaMetrics ignores texts
        if not self._is_poisoned:
            self._server.write(
                f"{self._measurement},user_id=nobody,device_id=d mode=1,sequence_id=0i {START.timestamp():.0f}000000000"
            )
            self._is_poisoned = True
        return sink_record(record.offset, user=record.user_id, partition=record.partition, mode="on")


@pytest.fixture(scope="module", params=[InfluxServer, VictoriaServer], ids=["InfluxDB 1", "VictoriaMetrics"])
def server(request: pytest.FixtureRequest) -> Iterator[InfluxServer | VictoriaServer]:
    with server_directory() as directory, running(request.param(directory)) as made:
        yield made


@pytest.fixture
def destination(server: InfluxServer | VictoriaServer, unique: str) -> Iterator[OnServer]:
    yield OnServer(server, unique)
    server.process.signal(signal.SIGCONT)


class TestInflux(SinkContract):
    """The suite."""
