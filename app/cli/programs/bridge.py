"""`iot-stream bridge`: MQTT messages onto the input topic, a message is acknowledged only once Kafka has it."""

import asyncio
import signal
from collections.abc import Mapping

import structlog
import uvloop

from app.core.ingress.trace_budget import TraceBudget
from app.core.routing.client_ids import client_id, share
from app.gateways.admission import Admission, ingress_limits
from app.gateways.mqtt.bridge import Bridge
from app.gateways.mqtt.metrics import ADMISSION, WRITER
from app.gateways.mqtt.session import Login
from app.gateways.spans import BridgeSpans
from app.gateways.writer import KafkaWriter
from app.kafka.access import access
from app.mqtt.tls import mqtt_context
from app.ops import certificates, logs
from app.ops.about import About
from app.ops.health import HealthServer
from app.runtime.tracing.start import STOP_SECONDS, start_tracing
from app.runtime.tracing.tracing import NO_TRACING, Tracing
from app.settings import Settings, load
from app.settings.process import metrics_port

log = structlog.get_logger()

# Mosquitto forgets shared subscriptions, and no others, when it restarts: a message that it acknowledges to a device
# before the bridge is back is lost. So a share has to be asked for.
NO_SHARE = "-"


def bridge() -> None:
    """Bring MQTT messages into Kafka. A message is acknowledged to the broker once Kafka has it.

    Example: IOT_KAFKA_BROKER=kafka:9092 IOT_MQTT_HOST=mqtt iot-stream bridge
    """
    run(load())


def run(settings: Settings) -> None:
    """Bridge until SIGTERM or SIGINT; blocks meanwhile. Raises SettingsError for a variable OTEL_*, MachineError when
    the metrics port is taken.
    """
    logs.configure(settings)
    tracing = start_tracing("bridge", settings)
    try:
        uvloop.run(_main(settings, tracing))
    finally:
        tracing.stop(STOP_SECONDS)


def build(settings: Settings, tracing: Tracing = NO_TRACING) -> tuple[Bridge, KafkaWriter]:
    """The bridge and its writer, not yet connected. Raises ValueError when the TLS files of the settings cannot be
    used.
    """
    login = build_login(settings)
    topics = (settings.kafka_topic, settings.kafka_dlq_topic)
    writer = KafkaWriter(access(settings), settings.bridge_client_id, *topics, WRITER)
    address = (settings.mqtt_host, settings.mqtt_port)
    gate, spans = Admission(ingress_limits(settings), ADMISSION), None
    if tracing.enabled:
        spans = BridgeSpans(tracing, settings.kafka_topic, TraceBudget(settings.trace_incoming_per_second))
    return Bridge(address, mqtt_context(settings), login, writer, settings.bridge_buffer_bytes, gate, spans), writer


def build_login(settings: Settings) -> Login:
    """The options of the bridge's connection to the broker. Raises OSError or ValueError when the password file cannot
    be read.
    """
    return Login(
        client_id=client_id(settings.bridge_client_id, id_secret(settings)),
        username=settings.mqtt_username,
        password=settings.mqtt_secret,
        filters=filters(settings),
        receive_max=settings.bridge_in_flight,
        session_expiry=settings.bridge_session_expiry,
        max_packet=settings.bridge_packet_max_bytes,
    )


def filters(settings: Settings) -> tuple[str, ...]:
    """The topic filters of the bridge, below its share unless the share is `-`."""
    if settings.bridge_share == NO_SHARE:
        return settings.bridge_filters
    name = share(settings.bridge_share, id_secret(settings))
    return tuple(f"$share/{name}/{pattern}" for pattern in settings.bridge_filters)


def id_secret(settings: Settings) -> str | None:
    """The suffix that makes client ids and shares unguessable; None: both stay as configured."""
    return settings.mqtt_secret if settings.mqtt_guarded_ids else None


async def _main(settings: Settings, tracing: Tracing) -> None:
    made, writer = build(settings, tracing)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def live() -> Mapping[str, bool]:
        return {"running": True}

    async def ready() -> Mapping[str, bool]:
        return {"mqtt": made.connected, "kafka": writer.available}

    def connected() -> Mapping[str, bool]:
        return {"kafka": writer.answered}  # known sooner than /ready says

    about = About("bridge", settings.app, ready, lambda: made.queue_depth, made.flushes, connected)
    port = metrics_port(settings, "bridge")
    health = HealthServer(settings.metrics_host, port, live, ready, about=about)
    certificates.report(settings)
    await health.start()
    log.info("bridge_started", metrics_port=health.port, topic=settings.kafka_topic)
    try:
        await made.run(stop, settings.shutdown_timeout)
    finally:
        await health.stop()
