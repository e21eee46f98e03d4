"""Runs gateways: settings in; a process that takes telemetry until it gets a signal to stop, and then loses nothing.

The end, within IOT_SHUTDOWN_TIMEOUT: the gateways take no new work and answer what is in flight, while records still
go to Kafka; then the intake writes what is left, and everything is closed. A sender repeats what was not
answered by then.
"""

import asyncio
import importlib
import signal
import sys
import time
from collections.abc import Mapping, Sequence

import structlog
import uvloop

from app.cli.ingest.logins import accounts_of, logins
from app.core.ingress.trace_budget import TraceBudget
from app.errors import PermanentError
from app.gateways.admission import Admission, ingress_limits
from app.gateways.gateway import Gateway
from app.gateways.gateway_metrics import ADMISSION, WRITER
from app.gateways.intake import Intake
from app.gateways.login.logins import Logins
from app.gateways.spans import BridgeSpans
from app.gateways.writer import KafkaWriter
from app.kafka.access import access
from app.ops import certificates, logs
from app.ops.about import About
from app.ops.health import HealthServer
from app.runtime import allocator
from app.runtime.ending.stop_deadline import StopDeadline
from app.runtime.interrupt import Interrupt
from app.runtime.tracing import semconv
from app.runtime.tracing.start import STOP_SECONDS, start_tracing
from app.runtime.tracing.tracing import Tracing
from app.settings import Settings
from app.settings.exposed import refuse_exposed
from app.settings.process import metrics_port

log = structlog.get_logger()

# Way -> class of app.gateways.<way>.server.
WAYS: Mapping[str, str] = {"http": "HttpGateway", "tcp": "TcpGateway", "grpc": "GrpcGateway", "quic": "QuicGateway"}
INSTALL = "pip install 'iot-stream[gateways]'"
LAST_SECONDS = 1.0  # of the time to stop, for what the intake has still to write
CLOSE_SECONDS = 2.0  # for closing connections, after which the process is ended


def run(settings: Settings, ways: Sequence[str]) -> None:
    """Take telemetry in by these ways (of WAYS, at least one) until SIGTERM or SIGINT; blocks meanwhile.

    Raises SettingsError when a gateway may not start with its settings, MachineError when an address is taken,
    PermanentError when a package is missing.
    """
    refuse_exposed(settings, ways)
    logs.configure(settings)
    program = ways[0] if len(ways) == 1 else "ingest"
    tracing = start_tracing(program, settings)
    try:
        uvloop.run(_main(settings, ways, program, tracing))
    finally:
        tracing.stop(STOP_SECONDS)


def build_intake(settings: Settings, tracing: Tracing) -> Intake:
    """The intake of a process with its writer, not yet connected."""
    topics = (settings.kafka_topic, settings.kafka_dlq_topic)
    writer = KafkaWriter(access(settings), settings.gateway_client_id, *topics, WRITER)
    spans = None
    if tracing.enabled:
        budget = TraceBudget(settings.trace_incoming_per_second)
        spans = BridgeSpans(tracing, settings.kafka_topic, budget, semconv.GATEWAY)
    return Intake(writer, settings.gateway_buffer_bytes, Admission(ingress_limits(settings), ADMISSION), spans)


def build_gateway(way: str, settings: Settings, intake: Intake, accounts: Logins) -> Gateway:
    """The gateway `way` of WAYS, not yet started. Raises PermanentError when its packages are not installed, or are the
    slow ones.
    """
    try:
        module = importlib.import_module(f"app.gateways.{way}.server")
    except ModuleNotFoundError as error:
        raise PermanentError(f"{way} needs the package {error.name}: {INSTALL}") from None
    if "google.protobuf" in sys.modules:
        from app.runtime.protobuf.implementation import require_upb

        require_upb()
    made: Gateway = getattr(module, WAYS[way])(settings, intake, accounts_of(way, accounts, settings))
    return made


async def _main(settings: Settings, ways: Sequence[str], program: str, tracing: Tracing) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    intake, accounts = build_intake(settings, tracing), logins(settings)
    gateways = [build_gateway(way, settings, intake, accounts) for way in ways]
    health = _health(settings, program, intake, accounts, gateways)
    certificates.report(settings)
    await health.start()
    ended = asyncio.Event()
    writing = asyncio.create_task(intake.run(ended, LAST_SECONDS), name="intake")
    warming = asyncio.create_task(accounts.warm(), name="accounts")
    started: list[Gateway] = []
    try:
        for gateway in gateways:
            started.append(gateway)
            await gateway.start()
        allocator.look_for_cycles_seldom()
        log.info("gateways_started", ways=list(ways), metrics_port=health.port, topic=settings.kafka_topic)
        await Interrupt(stop).first_of(writing)
    finally:
        StopDeadline(settings.shutdown_timeout + CLOSE_SECONDS).begin()
        began = time.monotonic()
        failures = await _stop(started, max(0.1, settings.shutdown_timeout - LAST_SECONDS))
        ended.set()
        await asyncio.wait([writing])
        warming.cancel()
        await accounts.close()
        await health.stop()
        log.info("gateways_stopped", seconds=round(time.monotonic() - began, 2))
    writing.result()
    for failure in failures:
        raise failure


async def _stop(gateways: Sequence[Gateway], seconds: float) -> list[BaseException]:
    """Stop all gateways at once; an error of one stops no other from stopping, and is returned."""
    results = await asyncio.gather(*(gateway.stop(seconds) for gateway in gateways), return_exceptions=True)
    return [result for result in results if isinstance(result, BaseException)]


def _health(
    settings: Settings, program: str, intake: Intake, accounts: Logins, gateways: Sequence[Gateway]
) -> HealthServer:
    async def live() -> Mapping[str, bool]:
        return {"running": True}

    async def ready() -> Mapping[str, bool]:
        checks = {"kafka": intake.available}
        for gateway in gateways:
            checks.update(gateway.ready())
        return checks

    def connected() -> Mapping[str, bool]:
        return {"kafka": intake.answered, "database": accounts.reachable}

    about = About(program, settings.app, ready, lambda: intake.queue_depth, intake.flushes, connected)
    port = metrics_port(settings, gateways[0].name)
    return HealthServer(settings.metrics_host, port, live, ready, about=about)
