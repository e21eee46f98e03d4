"""`iot-stream notifier`: alert events from Kafka to users/<id>/alerts, acknowledged before the commit."""

import asyncio
import signal
from collections.abc import Mapping

import structlog

from app.core.ingress.trace_budget import TraceBudget
from app.core.routing.client_ids import client_id
from app.mqtt.connection import BrokerAccount
from app.mqtt.publisher import MqttPublisher
from app.mqtt.tls import mqtt_context
from app.notify.channels.apprise_client import AppriseClient
from app.notify.channels.channel import AllowedTargets
from app.notify.channels.channel_book import ChannelBook
from app.notify.channels.channel_sender import AT_ONCE, ChannelSender
from app.notify.notifier import Notifier
from app.notify.publishing import Publishing
from app.notify.retrying import RetryingDatabase, RetryUntilStopped
from app.notify.spans import NotifySpans
from app.notify.webhook import WebhookSender
from app.notify.webhook_client import WebhookClient
from app.ops import certificates, logs
from app.ops.about import About
from app.ops.health import HealthServer
from app.runtime.interrupt import Interrupt
from app.runtime.tracing.start import STOP_SECONDS, start_tracing
from app.runtime.tracing.tracing import Tracing
from app.settings import Settings, load
from app.settings.process import metrics_port

log = structlog.get_logger()


def notifier() -> None:
    """Publish alert events over MQTT. No offset is committed before the broker has acknowledged the message.

    Example: IOT_KAFKA_BROKER=kafka:9092 IOT_MQTT_HOST=mqtt iot-stream notifier
    """
    run(load())


def run(settings: Settings) -> None:
    """Publish until SIGTERM or SIGINT; blocks meanwhile. Raises SettingsError for a variable OTEL_*, MachineError
    when the metrics port is taken.
    """
    logs.configure(settings)
    tracing = start_tracing("notifier", settings)
    try:
        asyncio.run(_main(settings, tracing))
    finally:
        tracing.stop(STOP_SECONDS)


def account(settings: Settings) -> BrokerAccount:
    """Where and as whom the notifier publishes. Raises ValueError when the TLS files of the settings cannot be used."""
    return BrokerAccount(
        host=settings.mqtt_host,
        port=settings.mqtt_port,
        client_id=client_id(settings.notifier_client_id, settings.mqtt_secret if settings.mqtt_guarded_ids else None),
        username=settings.mqtt_username,
        password=settings.mqtt_secret,
        tls=mqtt_context(settings),
    )


def channel_client(settings: Settings) -> AppriseClient | None:
    """What sends to channels, None where they may have no scheme. Raises SettingsError where apprise is missing."""
    if not settings.channel_schemes:
        return None
    hosts, private = settings.channel_hosts, settings.channel_private_hosts
    allowed = [tuple(name.lower() for name in some) for some in (settings.channel_schemes, hosts, private)]
    return AppriseClient(AllowedTargets(*allowed), AT_ONCE)


def probe(settings: Settings) -> str:
    """The topic of trial messages, which show whether the broker is well: alerts of a user of the notifier's name."""
    name = settings.notifier_client_id
    return f"users/{'iot-notifier' if any(mark in name for mark in '/+#') else name}/alerts"


async def _main(settings: Settings, tracing: Tracing) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    retry = RetryUntilStopped(stop)
    publisher = MqttPublisher(account(settings), retry.rest)
    publishing = Publishing(publisher, retry, probe(settings), settings.alert_delayed_after)
    spans = NotifySpans(tracing, TraceBudget(settings.trace_incoming_per_second))
    made = Notifier(settings, publishing, retry, spans)

    async def live() -> Mapping[str, bool]:
        return {"running": True}

    async def ready() -> Mapping[str, bool]:
        return made.ready()

    about = About("notifier", settings.app, ready, lambda: made.queue_depth, made.flushes)
    port = metrics_port(settings, "notifier")
    health = HealthServer(settings.metrics_host, port, live, ready, about=about)
    certificates.report(settings)
    await health.start()
    log.info("notifier_started", metrics_port=health.port, topic=settings.kafka_alerts_topic)
    try:
        await _until(stop, asyncio.create_task(_deliver(settings, made, stop)), settings.shutdown_timeout)
    finally:
        await publisher.close()
        await health.stop()


async def _deliver(settings: Settings, made: Notifier, stop: asyncio.Event) -> None:
    """Publish, post to the webhook if there is one, and to channels if there may be some; when one task ends
    unexpectedly, so do the others.
    """
    url, hook = settings.webhook_url, None
    if url:
        hook = WebhookClient(url.get_secret_value(), settings.webhook_key, settings.webhook_timeout)
    client = channel_client(settings)
    async with asyncio.TaskGroup() as group:
        group.create_task(made.run())
        if hook is not None:
            group.create_task(WebhookSender(settings, hook, stop).run())
        if client is not None:
            database = RetryingDatabase(settings, "iot-stream channels", RetryUntilStopped(stop))
            group.create_task(ChannelSender(settings, client, ChannelBook(database), stop).run())


async def _until(stop: asyncio.Event, running: "asyncio.Task[None]", seconds: float) -> None:
    """Wait for the end of `running`; after `stop`, for at most `seconds` more."""
    await Interrupt(stop).first_of(running)
    _, unfinished = await asyncio.wait([running], timeout=seconds)
    if unfinished:
        log.warning("notifier_unfinished", note="what was not acknowledged is published again by the next start")
        running.cancel()
        await asyncio.wait([running])
    elif running.exception():
        raise running.exception() or AssertionError
