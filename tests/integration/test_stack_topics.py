"""`iot-stream topics`: made once, compared afterwards."""

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.errors import PermanentError, TransientError
from app.kafka.access import Access
from app.kafka.topics import create, existing, wanted
from app.local.servers.common import free_port
from app.settings import Settings
from tests.servers import KafkaServer

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(kafka: KafkaServer, unique: str) -> Settings:
    return Settings(
        app=unique,
        kafka_broker=kafka.bootstrap,
        kafka_topic=f"{unique}-in",
        kafka_dlq_topic=f"{unique}-dlq",
        kafka_alerts_topic=f"{unique}-alerts",
        kafka_partitions=3,
    )


async def test_makes_the_missing_ones_and_then_none(settings: Settings, unique: str) -> None:
    names = [f"{unique}-in", f"{unique}-dlq", f"{unique}-alerts", f"iot-{unique}-state-changelog"]
    assert await create(Access(settings.kafka_broker), wanted(settings), 1) == names
    assert await create(Access(settings.kafka_broker), wanted(settings), 1) == []
    assert await existing(Access(settings.kafka_broker), [*names, f"{unique}-none"]) == dict.fromkeys(names, 3)


async def test_topics_have_the_settings_they_need(settings: Settings, unique: str) -> None:
    await create(Access(settings.kafka_broker), wanted(settings), 1)
    assert await _config(settings.kafka_broker, f"iot-{unique}-state-changelog", "cleanup.policy") == "compact"
    assert int(await _config(settings.kafka_broker, f"{unique}-in", "max.message.bytes")) >= 1_200_000
    # 1 MiB in base64
    assert int(await _config(settings.kafka_broker, f"{unique}-dlq", "max.message.bytes")) >= 1_400_000


async def test_another_partition_count_is_refused_by_name(settings: Settings, unique: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_broker)
    await admin.start()
    await admin.create_topics([NewTopic(f"{unique}-alerts", 5, 1)])
    await admin.close()
    async with asyncio.timeout(20):  # a topic that was just made is not listed at once
        while not await existing(Access(settings.kafka_broker), [f"{unique}-alerts"]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    with pytest.raises(PermanentError, match=f"{unique}-alerts has 5 partitions, the settings say 3"):
        await create(Access(settings.kafka_broker), wanted(settings), 1)
    assert await existing(Access(settings.kafka_broker), [f"{unique}-in"]) == {}, "none is made when one is wrong"


async def test_no_broker_is_an_outage() -> None:
    with pytest.raises(TransientError, match="cannot reach Kafka"):
        await existing(Access(f"127.0.0.1:{free_port()}"), ["x"])


async def _config(broker: str, topic: str, name: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    finally:
        await admin.close()
    entries = answer.resources[0][4]
    return next(str(entry[1]) for entry in entries if entry[0] == name)
