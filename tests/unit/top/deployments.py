"""Pages of workers, a bridge, gateways and sinks, as prometheus_client writes them, and a server that serves them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.top.model.answers import PageAnswer
from app.top.model.samples import parse

AGES = (0.01, 0.1, 1, 10)
OUTCOMES = ("received", "stored", "duplicate", "dead_lettered", "dropped_by_policy")


@dataclass
class WorkerPage:
    """What a worker has counted since `born`. By default it has partitions 0 and 1."""

    born: float = 1000.0
    stored: Mapping[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    duplicate: int = 0  # of partition 0, as the next two
    dead: int = 0
    lost: int = 0  # received, and nowhere else: a bug
    lag: Mapping[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    breaker: float = 0.0
    online: int = 0
    ages: tuple[float, ...] = ()  # seconds of each batch so far
    cpu: float = 0.0

    def text(self) -> bytes:
        """The page."""
        registry = CollectorRegistry()
        _process(registry, "worker", self.born, self.cpu)
        Gauge("db_circuit_breaker_state", "state", registry=registry).set(self.breaker)
        received = sum(self.stored.values()) + self.duplicate + self.dead + self.lost
        Counter("iot_messages_received", "n", ["kind"], registry=registry).labels("telemetry").inc(received)
        Counter("iot_rows_stored", "n", registry=registry).inc(sum(self.stored.values()))
        Counter("iot_records_carried_out", "n", registry=registry)
        Counter("iot_rows_duplicate", "n", registry=registry).inc(self.duplicate)
        Counter("iot_dead_letters", "n", ["reason"], registry=registry).labels("bad_json").inc(self.dead)
        Counter("iot_dropped", "n", ["policy"], registry=registry)
        Gauge("iot_devices_online", "n", registry=registry).set(self.online)
        self._of_partitions(registry)
        ages = Histogram("iot_event_age_seconds", "s", buckets=AGES, registry=registry)
        for age in self.ages:
            ages.observe(age)
        return generate_latest(registry)

    def _of_partitions(self, registry: CollectorRegistry) -> None:
        lag = Gauge("iot_consumer_lag", "n", ["partition"], registry=registry)
        for number, records in self.lag.items():
            lag.labels(str(number)).set(records)
        ledger = Counter("iot_ledger", "n", ["partition", "outcome"], registry=registry)
        for number, rows in self.stored.items():
            mine = number == min(self.stored)
            others = (self.duplicate, self.dead, 0) if mine else (0, 0, 0)
            received = rows + sum(others) + (self.lost if mine else 0)
            for outcome, count in zip(OUTCOMES, (received, rows, *others), strict=True):
                ledger.labels(str(number), outcome).inc(count)


def bridge_page(written: int, born: float = 1000.0) -> bytes:
    """That of a bridge."""
    registry = CollectorRegistry()
    _process(registry, "bridge", born, 0.0)
    Counter("iot_bridge_written", "n", registry=registry).inc(written)
    Gauge("iot_bridge_connected", "n", registry=registry).set(1)
    return generate_latest(registry)


def gateway_page(way: str, records: int, born: float = 1000.0) -> bytes:
    """That of the program of one way in."""
    registry = CollectorRegistry()
    _process(registry, way, born, 0.0)
    Counter("iot_gateway_records", "n", ["gateway"], registry=registry).labels(way).inc(records)
    return generate_latest(registry)


@dataclass
class SinkPage:
    """What a sink has counted since `born`."""

    sink: str
    born: float = 1000.0
    outcomes: Mapping[str, int] = field(default_factory=lambda: {"written": 0})
    held: int = 0
    lost: int = 0  # received, and nowhere else: a bug
    lag: int = 0
    breaker: float = 0.0
    series: tuple[int, int] = (0, 100_000)  # known, and the limit
    dropped: Mapping[str, int] = field(default_factory=dict)  # by user
    anew: int = 0  # partitions
    missed: int = 0

    def text(self, program: str = "sink") -> bytes:
        """The page."""
        registry = CollectorRegistry()
        _process(registry, program, self.born, 0.0)
        received = sum(self.outcomes.values()) + self.held + self.lost
        self._counter(registry, "received", received)
        self._counter(registry, "topic_made_anew", self.anew)
        self._counter(registry, "missed", self.missed)
        records = Counter("iot_sink_records", "n", ["sink", "outcome"], registry=registry)
        for outcome, count in self.outcomes.items():
            records.labels(self.sink, outcome).inc(count)
        gauges = {
            "held_records": self.held, "held_bytes": 100 * self.held, "lag": self.lag, "waiting_seconds": 7.0,
            "breaker_state": self.breaker, "series": self.series[0], "series_limit": self.series[1],
        }  # fmt: skip
        for name, value in gauges.items():
            Gauge(f"iot_sink_{name}", "n", ["sink"], registry=registry).labels(self.sink).set(value)
        dropped = Counter("iot_sink_series_dropped", "n", ["sink", "limit"], registry=registry)
        dropped.labels(self.sink, "sink").inc(sum(self.dropped.values()))
        top = Gauge("iot_sink_top_series_dropped", "n", ["sink", "user"], registry=registry)
        for user, count in self.dropped.items():
            top.labels(self.sink, user).set(count)
        return generate_latest(registry)

    def _counter(self, registry: CollectorRegistry, name: str, value: int) -> None:
        Counter(f"iot_sink_{name}", "n", ["sink"], registry=registry).labels(self.sink).inc(value)


def _process(registry: CollectorRegistry, program: str, born: float, cpu: float) -> None:
    Gauge("process_start_time_seconds", "s", registry=registry).set(born)
    Gauge("process_resident_memory_bytes", "b", registry=registry).set(100 << 20)
    Counter("process_cpu_seconds", "s", registry=registry).inc(cpu)
    Gauge("iot_build_info", "1", ["version", "app", "program"], registry=registry).labels(
        "0.2.0", "worker", program
    ).set(1)


def answered(url: str, at: float, page: bytes, ready: bool | None = True) -> PageAnswer:
    """What the look at a page brings home."""
    return PageAnswer(url, at, parse(page), ready=ready)


@dataclass
class Served:
    """Path -> status and body; a body of None is never finished."""

    pages: dict[str, tuple[int, bytes | None]]
    url: str = ""


@asynccontextmanager
async def serving(**pages: tuple[int, bytes | None]) -> AsyncIterator[Served]:
    """A server on the loopback address: `metrics=(200, text), ready=(503, b"{}")`. Its pages may be changed."""
    served = Served({f"/{name}": page for name, page in pages.items()})
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        status, body = served.pages.get(request.path, (404, b""))
        if body is not None:
            return web.Response(status=status, body=body)
        stream = web.StreamResponse()
        await stream.prepare(request)
        await over.wait()
        return stream

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    served.url = f"http://127.0.0.1:{port}"
    try:
        yield served
    finally:
        over.set()
        await runner.cleanup()
