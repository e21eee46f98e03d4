"""The topics that iot-stream needs: their settings; topics are made where missing, and compared where they exist."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from app.errors import PermanentError, TransientError
from app.kafka.access import Access, start
from app.settings import Settings

DAY_MS = 86_400_000
LOOKS = 300  # ten a second, for a new topic to be known
ALREADY_EXISTS = 36  # TOPIC_ALREADY_EXISTS of the protocol: somebody else was quicker


class TopicSpec(NamedTuple):
    """The partitions and settings that a topic should have."""

    name: str
    partitions: int
    config: Mapping[str, str]


def wanted(settings: Settings) -> list[TopicSpec]:
    """All topics of one app. Equal partition counts: state and dead letters go to the partition of their record."""
    count = settings.kafka_partitions
    return [
        # 1.3 MB: a payload of 1 MiB with its topic, headers and the record's overhead
        TopicSpec(settings.kafka_topic, count, {"retention.ms": str(7 * DAY_MS), "max.message.bytes": "1300000"}),
        # 2 MiB: the same payload in base64; kept longer, as a person has to look at it
        TopicSpec(settings.kafka_dlq_topic, count, {"retention.ms": str(30 * DAY_MS), "max.message.bytes": "2097152"}),
        TopicSpec(settings.kafka_alerts_topic, count, {"retention.ms": str(7 * DAY_MS)}),
        TopicSpec(f"{settings.group_id}-state-changelog", count, CHANGELOG),
    ]


# Small segments: only closed segments are compacted, and a worker that starts reads what is not compacted.
# min.compaction.lag: a stalled worker may write an older state behind a newer one. The newer state must be there
# when the partition is recovered next, when the stalled worker joins again: for longer than a rebalance takes.
CHANGELOG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),
    "segment.ms": str(3_600_000),
    "min.cleanable.dirty.ratio": "0.3",
    "min.compaction.lag.ms": str(300_000),
    "delete.retention.ms": str(DAY_MS),
}


async def existing(kafka: Access, names: list[str]) -> dict[str, int]:
    """The partition counts of the topics that exist. Raises TransientError when the broker is away."""
    async with _Admin(kafka) as admin:
        described = await admin.describe_topics(names) if names else []
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


async def create(kafka: Access, topics: list[TopicSpec], replication: int) -> list[str]:
    """Make the missing topics; returns their names. Raises PermanentError when a topic has another partition count."""
    there = await existing(kafka, [topic.name for topic in topics])
    _compare(topics, there)
    missing = [topic for topic in topics if topic.name not in there]
    if missing:
        await _make(kafka, missing, replication)
        _compare(missing, await _known(kafka, [topic.name for topic in missing]))
    return [topic.name for topic in missing]


def disagreement(there: Mapping[str, int]) -> str | None:
    """What an operator does about topics that differ in their partition counts; None when all agree.

    A count can only grow, so the cure is the largest count, for all topics.
    """
    if len(set(there.values())) <= 1:
        return None
    most = max(there.values())
    counts = ", ".join(f"{name} has {count} partitions" for name, count in there.items())
    small = [name for name, count in there.items() if count < most]
    commands = "; ".join(f"kafka-topics.sh --alter --partitions {most} --topic {name}" for name in small)
    return (
        f"{counts}: all must have as many. Nothing is read until then; reading goes on by itself. Give each {most}: "
        f"{commands}; and set IOT_KAFKA_PARTITIONS={most} for the next start. A device whose messages come in another "
        "partition from then on begins anew there: its open alerts fire again. To keep these alerts, make the topic "
        "that was changed anew with its former count instead"
    )


def _compare(topics: list[TopicSpec], there: Mapping[str, int]) -> None:
    differing = [
        f"{topic.name} has {there[topic.name]} partitions, the settings say {topic.partitions}"
        for topic in topics
        if there.get(topic.name, topic.partitions) != topic.partitions
    ]
    if differing:
        raise PermanentError(
            "; ".join(differing) + ". Set IOT_KAFKA_PARTITIONS to what all of them have, or use another IOT_APP and "
            "topics: the partition of a device must not change under its state"
        )


async def _known(kafka: Access, names: list[str]) -> dict[str, int]:
    """Wait until the brokers know the topics that the controller has made, which takes a moment."""
    for _ in range(LOOKS):
        there = await existing(kafka, names)
        if len(there) == len(names):
            return there
        await asyncio.sleep(0.1)
    raise TransientError(f"Kafka does not publish the topics that were just made: {', '.join(names)}")


async def _make(kafka: Access, topics: list[TopicSpec], replication: int) -> None:
    safe = {"min.insync.replicas": "2"} if replication > 2 else {}
    new = [
        NewTopic(topic.name, topic.partitions, replication, topic_configs={**topic.config, **safe}) for topic in topics
    ]
    async with _Admin(kafka) as admin:
        answer = await admin.create_topics(new, timeout_ms=30_000)
    for name, code, *rest in answer.topic_errors:
        if code not in (0, ALREADY_EXISTS):
            raise PermanentError(
                f"cannot make topic {name}: {rest[0] if rest and rest[0] else for_code(code).__name__}"
            )


class _Admin:
    """An admin client for the length of a block, its errors translated."""

    def __init__(self, kafka: Access) -> None:
        self._kafka = kafka

    async def __aenter__(self) -> AIOKafkaAdminClient:
        self._client = AIOKafkaAdminClient(**self._kafka.options, request_timeout_ms=30_000)
        try:
            await start(self._client, self._kafka)
        except BaseException as error:
            await self._client.close()
            if isinstance(error, (KafkaError, OSError)):
                raise TransientError(f"cannot reach Kafka at {self._kafka}: {error}") from error
            raise
        return self._client

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._client.close()
        if isinstance(error, KafkaError):
            retriable = bool(getattr(error, "retriable", False))
            raise (TransientError if retriable else PermanentError)(f"Kafka: {error}") from error
