"""Settings -> where letters go."""

import asyncio
import os
from collections.abc import Sequence
from enum import StrEnum

from app.deadletters.mqtt_outlet import MqttOutlet
from app.deadletters.outlets import KafkaOutlet, LetterOutlet, RefusedLetter
from app.deadletters.sole_replay import SoleReplay
from app.kafka.access import access
from app.kafka.messages import OutgoingMessage
from app.kafka.topics import DAY_MS, TopicSpec, create, existing
from app.mqtt.connection import BrokerAccount
from app.mqtt.tls import mqtt_context
from app.settings import Settings


class Target(StrEnum):
    """Where letters are put back."""

    KAFKA = "kafka"
    MQTT = "mqtt"


def outlet_of(settings: Settings, to: Target, sole: SoleReplay, patience: float) -> LetterOutlet:
    """The input topic, or the MQTT broker with the account of the settings."""
    stop = sole.stop
    if to is Target.KAFKA:
        return KafkaOutlet(access(settings), settings.kafka_topic, stop, patience, sole)
    account = BrokerAccount(
        settings.mqtt_host, settings.mqtt_port, f"iot-stream-dlq-{os.getpid()}", settings.mqtt_username,
        settings.mqtt_secret, mqtt_context(settings),
    )  # fmt: skip
    return MqttOutlet(account, stop, patience)


def quarantine_of(settings: Settings, stop: asyncio.Event, patience: float) -> LetterOutlet:
    """The quarantine topic, which is made when it is first needed."""
    return _MadeWhenNeeded(settings, stop, patience)


class _MadeWhenNeeded:
    def __init__(self, settings: Settings, stop: asyncio.Event, patience: float) -> None:
        self._settings, self._made = settings, False
        self._outlet = KafkaOutlet(access(settings), settings.kafka_quarantine_topic, stop, patience)

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[RefusedLetter]:
        if not self._made:
            await self._make()
            self._made = True
        return await self._outlet.send(messages)

    async def close(self) -> None:
        await self._outlet.close()

    async def _make(self) -> None:
        settings, kafka = self._settings, access(self._settings)
        name = settings.kafka_quarantine_topic
        if name not in await existing(kafka, [name]):
            config = {"retention.ms": str(90 * DAY_MS), "max.message.bytes": "2097152"}
            await create(kafka, [TopicSpec(name, settings.kafka_partitions, config)], settings.kafka_replication_factor)
