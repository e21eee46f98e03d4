"""Where every group stands in the topics of this fleet, and what the topics hold: numbers for a support archive."""

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.doctor.kafka import TIMEOUT_MS
from app.errors import PermanentError, TransientError
from app.kafka.access import access, start
from app.kafka.group_coordinator import coordinated
from app.kafka.topics import existing, wanted
from app.settings import Settings

GROUPS_MAX = 200  # of a cluster with thousands, the archive has the first

Offsets = dict[str, Any]


async def offsets(settings: Settings) -> Offsets:
    """{"topics": {topic: {partition: [first, end]}}, "groups": {group: {topic: {partition: committed}}}}, each group
    that has committed in one of the topics; {"error": words} when Kafka does not answer.
    """
    try:
        counts = await existing(access(settings), [topic.name for topic in wanted(settings)])
        return {"topics": await _ends(settings, counts), "groups": await _committed(settings, counts)}
    except (KafkaError, OSError, TransientError, PermanentError) as error:
        return {"error": str(error) or repr(error)}


async def _ends(settings: Settings, counts: Mapping[str, int]) -> Offsets:
    parts = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
    async with AIOKafkaConsumer(**access(settings).options, request_timeout_ms=TIMEOUT_MS) as consumer:
        starts, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    return {
        topic: {number: [starts[tp], ends[tp]] for number, tp in enumerate(one for one in parts if one.topic == topic)}
        for topic in counts
    }


async def _committed(settings: Settings, counts: Mapping[str, int]) -> Offsets:
    kafka, found = access(settings), Offsets()
    admin = AIOKafkaAdminClient(**kafka.options, request_timeout_ms=TIMEOUT_MS)
    try:
        await start(admin, kafka)
        names = sorted(group[0] for group in await admin.list_consumer_groups())
        for name in names[:GROUPS_MAX]:
            places: Offsets = {}
            for tp, at in (await _of_group(admin, name)).items():
                if tp.topic in counts:
                    places.setdefault(tp.topic, {})[tp.partition] = at.offset
            if places:
                found[name] = places
    finally:
        await admin.close()
    return found


async def _of_group(admin: AIOKafkaAdminClient, name: str) -> Mapping[TopicPartition, Any]:
    answer: Mapping[TopicPartition, Any] = await coordinated(lambda: admin.list_consumer_group_offsets(name))
    return answer
