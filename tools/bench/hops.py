"""The time of each hop of a run, from the records in Kafka and the programs' own metrics."""

import json
import re
from collections.abc import Mapping
from datetime import datetime

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.workers import Running

Metrics = Mapping[str, float]
SAMPLE = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$", re.M)


async def arrivals(
    kafka: str, topic: str, begin: Mapping[int, int], ends: Mapping[int, int]
) -> dict[int, tuple[float, float]]:
    """{sequence_id: (seconds from scheduled time to the bridge, to Kafka's log)} of the records between the offsets.

    The topic must have message.timestamp.type=LogAppendTime. Both times have a resolution of 1 ms.
    """
    found: dict[int, tuple[float, float]] = {}
    async with AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False) as consumer:
        left = {TopicPartition(topic, number) for number, end in ends.items() if end > begin.get(number, 0)}
        consumer.assign(sorted(left))
        for tp in left:
            consumer.seek(tp, begin.get(tp.partition, 0))
        while left:
            for tp, records in (await consumer.getmany(*left, timeout_ms=1000)).items():
                for record in records:
                    payload = json.loads(record.value)
                    due = datetime.fromisoformat(payload["time"]).timestamp()
                    bridge = int(dict(record.headers)["ingest_ms"]) / 1000
                    found[payload["sequence_id"]] = (bridge - due, record.timestamp / 1000 - due)
                if records[-1].offset + 1 >= ends[tp.partition]:
                    left.discard(tp)
    return found


async def read(program: Running) -> Metrics:
    """All samples of a program's metrics page by name and labels."""
    _, page = await program.get("/metrics")
    return {name: float(value) for name, value in SAMPLE.findall(page)}


def mean(before: Metrics, after: Metrics, name: str, labels: str = "") -> float:
    """The mean of a histogram's observations between two scrapes; 0 without observations."""
    total, count = (
        after.get(f"{name}_{part}{labels}", 0) - before.get(f"{name}_{part}{labels}", 0) for part in ("sum", "count")
    )
    return total / count if count else 0.0


def cpu(pid: int) -> float:
    """CPU seconds that a process and its running descendants have used."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)
