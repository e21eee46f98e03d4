"""The effect of a frozen destination of one sink on a worker and on a second sink, under a steady load."""

import asyncio
import statistics
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests import servers
from tests.conftest import INIT_SQL
from tests.workers import Running, Site
from tools.faults.senders import send_to_kafka
from tools.faults.servers import execute
from tools.faults.sinks.parquet_files import ParquetFiles
from tools.faults.sinks.servers import RedisServer
from tools.faults.sinks.traffic import SinkTraffic

RATE = 5_000  # messages a second
LOOK = 5.0  # seconds
BEFORE = 60.0  # seconds of the figures to compare with


async def measure(directory: Path, seconds: float) -> dict[str, float]:
    """CPU of the worker per million messages and the lag of the second sink, before and while Redis is frozen; memory
    of the first sink in MB, a minute after its destination froze and at the end.
    """
    files, redis = ParquetFiles(directory / "lake"), RedisServer(directory)
    with ExitStack() as stack:
        kafka, postgres = stack.enter_context(servers.kafka()), stack.enter_context(servers.postgres())
        mosquitto = stack.enter_context(servers.mosquitto())
        await execute(postgres.dsn, "CREATE DATABASE bench")
        await execute(postgres.dsn_of("bench"), INIT_SQL.read_text())
        await redis.start()
        try:
            more = {**files.settings, **redis.settings, "parquet_rotate_seconds": 5}
            site = Site(kafka.bootstrap, postgres.dsn_of("bench"), mosquitto, "bench", directory, more)
            await site.prepare([])
            return await _compare(site, files, redis, seconds, stack)
        finally:
            await redis.stop()


async def _compare(
    site: Site, files: ParquetFiles, redis: RedisServer, seconds: float, stack: ExitStack
) -> dict[str, float]:
    traffic = SinkTraffic(site, [files, redis], RATE)
    made = {name: stack.enter_context(site.program(name)) for name in ("worker", "sink-parquet", "sink-redis")}
    for one in made.values():
        await one.ready(60)
    sending = asyncio.create_task(send_to_kafka(site, traffic.pace))
    try:
        await asyncio.sleep(15)  # caches are warm
        before = await _watch(site, made, traffic, BEFORE)
        await redis.leave("frozen")
        await asyncio.sleep(LOOK)
        first = await _watch(site, made, traffic, min(60.0, seconds))
        rest = await _watch(site, made, traffic, max(0.0, seconds - 60.0)) if seconds > 60 else first
        await redis.come_back("frozen")
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return {
        "worker_cpu_per_million_before": before["cpu"], "worker_cpu_per_million_frozen": rest["cpu"],
        "parquet_lag_before": before["lag"], "parquet_lag_frozen": rest["lag"],
        "redis_sink_mb_after_a_minute": first["mb"], "redis_sink_mb_at_the_end": rest["mb"],
    }  # fmt: skip


async def _watch(site: Site, made: dict[str, Running], traffic: SinkTraffic, seconds: float) -> dict[str, float]:
    """Over `seconds`: CPU seconds of the worker per million messages, the median lag of the second sink in records,
    and the memory of the first sink at the end.
    """
    worker = psutil.Process(made["worker"].pid)
    cpu, sent, lags = sum(worker.cpu_times()[:2]), traffic.stream.sent, []
    group = f"{site.settings.group_id}-sink-parquet"
    for _ in range(max(1, int(seconds / LOOK))):
        await asyncio.sleep(LOOK)
        committed, ends = await site.committed(group=group), await site.ends()
        lags.append(sum(end - committed.get(partition, 0) for partition, end in ends.items()))
    used, count = sum(worker.cpu_times()[:2]) - cpu, traffic.stream.sent - sent
    memory = psutil.Process(made["sink-redis"].pid).memory_info().rss / 1e6
    return {"cpu": used / count * 1e6, "lag": statistics.median(lags), "mb": memory}
