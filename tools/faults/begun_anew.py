"""Faults of offsets: the input topic is recreated, gets more partitions, or its consumer group is reset."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.workers import behind, until
from tools.faults.identity import Undo
from tools.faults.remade import grow, remake
from tools.faults.rig import Rig
from tools.faults.schedule import GROUP_RESET, PARTITIONS_ADDED, Fault

WORKERS = ("worker 1", "worker 2")
BACK = 500  # records of each partition that the group consumes again


async def begin_anew(rig: Rig, fault: Fault) -> Undo:
    """Inflict a fault of offsets. The senders pause, and all records are committed before: the log is deleted."""
    if fault.kind.action == GROUP_RESET:
        return await _put_back(rig)
    await _quiet(rig)
    site, topic = rig.site, rig.site.settings.kafka_topic
    if fault.kind.action == PARTITIONS_ADDED:
        await grow(site, 2 * site.settings.kafka_partitions, topic)
        await until(lambda: _held(rig), 60, lambda: "the workers do not report that the topics differ")

    async def undo() -> None:
        rig.tail.stop()
        await remake(site, topic)
        rig.tail.begin_anew()
        for pace in rig.paces:
            pace.free.set()

    return undo


async def _quiet(rig: Rig) -> None:
    for pace in rig.paces:
        pace.free.clear()

    async def passed_on() -> bool:
        rig.check()
        seen = [(pace.next, rig.tail.times[pace.stream.letter]) for pace in rig.paces]
        answered = all(pace.next == pace.stream.sent for pace in (rig.mqtt, *rig.ways.values()))
        return answered and all(len(times) >= sent and not times.count(0, 0, sent) for sent, times in seen)

    await until(passed_on, 60, lambda: "not all sent messages are on the input topic")
    await rig.site.settled_input()
    await sinks_settled(rig, 60)


async def sinks_settled(rig: Rig, seconds: float) -> None:
    """Wait until each sink has committed all records."""
    for name, group in rig.sink_groups.items():
        await _settled(rig, name, group, seconds)


async def _settled(rig: Rig, name: str, group: str, seconds: float) -> None:
    ends, committed = await rig.site.ends(), dict[int, int]()

    async def done() -> bool:
        nonlocal committed
        committed = await rig.site.committed(group=group)
        return all(committed.get(partition, 0) >= end for partition, end in ends.items())

    await until(done, seconds, lambda: f"{name}: {behind(committed, ends)}\n{rig.programs[name].tail(15)}")


async def _held(rig: Rig) -> bool:
    answers = [await rig.programs[name].get("/ready") for name in WORKERS]
    return all(status == 503 and '"topics_agree": false' in body for status, body in answers)


async def _put_back(rig: Rig) -> Undo:
    """Reset the group as with kafka-consumer-groups.sh while alerts are open: old records are consumed again."""
    for name in WORKERS:
        await asyncio.to_thread(rig.programs[name].stop)
    settings, committed = rig.site.settings, await rig.site.committed()
    async with AIOKafkaConsumer(bootstrap_servers=rig.site.kafka, group_id=settings.group_id) as consumer:
        parts = [TopicPartition(settings.kafka_topic, number) for number in committed]
        consumer.assign(parts)
        starts = await consumer.beginning_offsets(parts)
        await consumer.commit({part: max(starts[part], committed[part.partition] - BACK) for part in parts})

    async def undo() -> None:
        for name in WORKERS:
            rig.programs[name].start()

    return undo
