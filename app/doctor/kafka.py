"""Kafka: the topics as they must be, the workers' group, and its offsets in the log."""

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from app.doctor.finding import Finding, broken, ok, warning
from app.kafka.access import access, start
from app.kafka.group_coordinator import coordinated
from app.kafka.topics import TopicSpec, wanted
from app.settings import Settings

AREA = "kafka"
TIMEOUT_MS = 10_000
LAG_MANY = 100_000  # records; a worker takes so many in a second, so more means that workers do not keep up
MAKE = "run: iot-stream topics create"


async def look(settings: Settings) -> list[Finding]:
    """All findings about Kafka; a single finding when no broker answers. Never raises for an outage."""
    kafka = access(settings)
    admin = AIOKafkaAdminClient(**kafka.options, request_timeout_ms=TIMEOUT_MS)
    try:
        await start(admin, kafka)
        described = await admin.describe_topics([topic.name for topic in wanted(settings)])
        there = {one["topic"]: one for one in described if not one["error_code"]}
        found = [ok(AREA, f"reached at {kafka}"), *await _topics(admin, settings, there)]
        if settings.kafka_topic in there:
            found += await _progress(admin, settings, len(there[settings.kafka_topic]["partitions"]))
    except (KafkaError, OSError) as error:
        what = f"no way into Kafka at {kafka}: {error}"
        return [broken(AREA, what, "start Kafka, or set IOT_KAFKA_BROKER and the settings below to Kafka's own")]
    finally:
        await admin.close()
    return found


async def _topics(admin: AIOKafkaAdminClient, settings: Settings, there: Mapping[str, Any]) -> list[Finding]:
    found = []
    for topic in wanted(settings):
        described = there.get(topic.name)
        if described is None:
            found.append(broken(AREA, f"the topic {topic.name} is missing", MAKE))
            continue
        wrong = _partitions(topic, described, settings) + _config(topic, await _configured(admin, topic.name))
        found += wrong or [ok(AREA, f"topic {topic.name}: {topic.partitions} partitions, set as it must be")]
    return found


def _partitions(topic: TopicSpec, described: Mapping[str, Any], settings: Settings) -> list[Finding]:
    partitions = described["partitions"]
    found = []
    if len(partitions) != topic.partitions:
        what = f"{topic.name} has {len(partitions)} partitions, the settings say {topic.partitions}"
        found.append(
            broken(
                AREA,
                what,
                "set IOT_KAFKA_PARTITIONS to the topic's number; the number must not change under a state",
            )
        )
    if headless := [one["partition"] for one in partitions if one["leader"] < 0]:
        found.append(broken(AREA, f"{topic.name}: partitions {headless} have no leader", "bring the brokers back"))
    if behind := [one["partition"] for one in partitions if len(one["isr"]) < len(one["replicas"])]:
        what = f"{topic.name}: replicas of partitions {behind} are not in sync"
        found.append(warning(AREA, what, "look after the brokers that lag or are gone"))
    if partitions and (replicas := min(len(one["replicas"]) for one in partitions)) < settings.kafka_replication_factor:
        what = f"{topic.name} has {replicas} replicas, the settings say {settings.kafka_replication_factor}"
        found.append(warning(AREA, what, "reassign its partitions with more replicas"))
    return found


async def _configured(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {entry[0]: entry[1] or "" for answer in answers for *_, entries in answer.resources for entry in entries}


def _config(topic: TopicSpec, there: Mapping[str, str]) -> list[Finding]:
    """What of its configuration loses or blocks records; the rest is the operator's taste."""
    found = []
    policy, should = there.get("cleanup.policy", "delete"), topic.config.get("cleanup.policy", "delete")
    if policy != should:
        lost = "old records of a device vanish" if should == "delete" else "old device states vanish"
        found.append(
            broken(AREA, f"{topic.name}: cleanup.policy is {policy}: {lost}", f"set cleanup.policy to {should}")
        )
    for name, loss in (
        ("retention.ms", "records are removed early"),
        ("max.message.bytes", "large records are refused"),
    ):
        least, has = topic.config.get(name), there.get(name)
        if least and has and 0 <= int(has) < int(least):
            found.append(warning(AREA, f"{topic.name}: {name} is {has}: {loss}", f"set {name} to {least} or more"))
    return found


async def _progress(admin: AIOKafkaAdminClient, settings: Settings, partitions: int) -> list[Finding]:
    """The group, and each partition's committed offset against its log."""
    group, members, state = settings.group_id, 0, "Dead"
    for answer in await coordinated(lambda: admin.describe_consumer_groups([group])):
        for described in answer.groups:
            state, members = described[2], len(described[5])
    offsets = await coordinated(lambda: admin.list_consumer_group_offsets(group))
    committed = {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == settings.kafka_topic}
    async with AIOKafkaConsumer(**access(settings).options, request_timeout_ms=TIMEOUT_MS) as consumer:
        tps = [TopicPartition(settings.kafka_topic, n) for n in range(partitions)]
        starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    found, lags = [], {}
    for tp in tps:
        start, end, at = starts[tp], ends[tp], committed.get(tp.partition, -1)
        lags[tp.partition] = end - max(start, at)
        found += _position(tp, start, end, at)
    return [*_group(group, state, members), *found, *_lag(lags, members)]


def _position(tp: TopicPartition, start: int, end: int, at: int) -> list[Finding]:
    where = f"{tp.topic}-{tp.partition}"
    if at > end:
        what = f"{where}: committed offset {at} is after the end of the log, {end}: the topic was made again"
        return [
            broken(AREA, what, "nothing, if that was meant: a worker that starts reads the topic from the beginning")
        ]
    if 0 <= at < start:
        what = f"{where}: {start - at} records were removed by retention before they were read"
        return [broken(AREA, what, "raise retention.ms, and start more workers; these records are lost")]
    return []


def _group(group: str, state: str, members: int) -> list[Finding]:
    if members and state == "Stable":
        return [ok(AREA, f"group {group}: {members} worker{'s' * (members != 1)}")]
    if members:
        return [warning(AREA, f"group {group} is {state}", "look again in a minute: partitions are being handed over")]
    return [warning(AREA, f"group {group}: no worker runs", "start a worker: iot-stream worker")]


def _lag(lags: Mapping[int, int], members: int) -> list[Finding]:
    total, most = sum(lags.values()), max(lags, key=lambda n: lags[n])
    what = f"{total:,} records wait"
    what += f", most in partition {most}: {lags[most]:,}" if total else ""
    if total >= LAG_MANY and members:
        return [
            warning(AREA, what, "look at iot_batch_seconds for the slow stage; if the lag stays, start more workers")
        ]
    return [ok(AREA, what)]
