"""The input topic is deleted and made anew: offsets begin at 0, and no row, alert or device is the worse for it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site, until
from tools.faults.load import RULES
from tools.faults.remade import Sender, remake

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(300)]

BEFORE, AFTER = 300, 700
SentAlert = tuple[str, str, str]  # device, status, alert_id


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"kafka_partitions": 1})
    await made.prepare(RULES)
    return made


async def rows(site: Site) -> int:
    [(count,)] = await site.fetch("SELECT count(*) FROM raw_telemetry")
    return int(count)


async def reported(site: Site) -> Sequence[SentAlert]:
    query = "SELECT device_id, status, alert_id FROM alert_history ORDER BY event_time, status"
    return [tuple(row) for row in await site.fetch(query)]


async def stored(site: Site, sender: Sender, worker: Running) -> None:
    """Wait until every reading is a row; none may be missing for good."""

    async def all_there() -> bool:
        assert worker.alive, worker.tail()
        return await rows(site) == sender.sent

    await until(all_there, 60, lambda: f"{sender.sent} sent; {worker.tail(8)}")


async def until_sent(site: Site, wanted: Sequence[tuple[str, str]], worker: Running) -> Sequence[SentAlert]:
    found: Sequence[SentAlert] = []

    async def all_sent() -> bool:
        nonlocal found
        found = await reported(site)
        return [one[:2] for one in found] == list(wanted)

    await until(all_sent, 60, lambda: f"{found} instead of {wanted}; {worker.tail(8)}")
    return found


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
async def test_no_row_is_lost_and_an_open_alert_is_the_same_one(site: Site, running: bool) -> None:
    """The new log is longer than the old one before a worker looks: offsets alone show nothing."""
    sender = Sender(site)
    with site.program("worker") as worker:
        await worker.ready()
        await sender.send("d1", [20] * BEFORE + [95])
        await site.settled_input()
        await until_sent(site, [("d1", "FIRING")], worker)
        if not running:
            worker.stop()
        await remake(site, site.settings.kafka_topic)
        await sender.send("new", [20, 95])
        await sender.send("d1", [95] * AFTER + [20, 95])
        if not running:
            worker.start()
        await stored(site, sender, worker)
        steps = [("d1", "FIRING"), ("new", "FIRING"), ("d1", "RESOLVED"), ("d1", "FIRING")]
        found = await until_sent(site, steps, worker)
        assert found[0][2] == found[2][2], "the alert is not the one that was open before"
        await site.settled_input()
        assert len(worker.events("input_topic_made_anew")) == 1
        worker.stop()
        await sender.send("d1", [95, 20])
        worker.start()
        await stored(site, sender, worker)
        assert (await until_sent(site, [*steps, ("d1", "RESOLVED")], worker))[-1][2] == found[-1][2]
        assert len(worker.events("input_topic_made_anew")) == 1, "said once"
        worker.stop()


async def test_a_commit_in_the_range_of_the_new_log_is_one_of_the_old_log(site: Site) -> None:
    """A worker that has not noticed commits on; Kafka takes that for the topic of this name."""
    sender = Sender(site)
    with site.program("worker") as worker:
        await worker.ready()
        await sender.send("d1", [20] * BEFORE)
        await site.settled_input()
        worker.stop()
        tp = TopicPartition(site.settings.kafka_topic, 0)
        async with AIOKafkaConsumer(bootstrap_servers=site.kafka, group_id=site.settings.group_id) as consumer:
            consumer.assign([tp])
            committed = await consumer._coordinator.fetch_committed_offsets([tp])
            await remake(site, site.settings.kafka_topic)
            await sender.send("d1", [20] * AFTER)
            await consumer.commit({tp: committed[tp]})
        worker.start()
        await stored(site, sender, worker)
        worker.stop()


async def test_made_anew_again_and_again(site: Site) -> None:
    sender, steps = Sender(site), list[tuple[str, str]]()
    with site.program("worker") as worker:
        await worker.ready()
        for turn in range(3):
            await sender.send("d1", [20] * (5 - turn) + [95])
            steps += [("d1", "FIRING")] if not turn else [("d1", "RESOLVED"), ("d1", "FIRING")]
            await stored(site, sender, worker)
            await until_sent(site, steps, worker)
            await remake(site, site.settings.kafka_topic)
        await sender.send("d1", [95])
        await stored(site, sender, worker)
        await until_sent(site, steps, worker)
        worker.stop()
