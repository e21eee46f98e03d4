"""The floor: the worker's task hand-written, without validation, rules, state, dead letters or recovery.

aiokafka getmany, msgspec, COPY into a temporary table, INSERT .. ON CONFLICT DO NOTHING, with as many writes in flight
as in the worker; offsets are committed in order, after their write. With `--straight` COPY goes into the table itself,
and by the temporary table only what meets a duplicate. Prints one JSON line when `--rows` are stored: seconds from the
first record to the last commit, and the CPU seconds between them.
"""

import argparse
import asyncio
import collections
import json
import os
import time
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer

COLUMNS = ("time", "user_id", "device_id", "sequence_id", "temperature", "battery", "extra_data")


class Reading(msgspec.Struct):
    """The payload of the benchmark's records."""

    time: datetime
    user_id: str
    device_id: str
    sequence_id: int
    temperature: float | None = None
    battery: int | None = None
    humidity: float | None = None


async def write(db: Any, rows: list[tuple[Any, ...]], straight: bool) -> None:
    """Store one batch in one transaction."""
    if straight:
        try:
            await db.copy_records_to_table("raw_telemetry", records=rows, columns=COLUMNS)
        except asyncpg.UniqueViolationError:
            pass
        else:
            return
    async with db.transaction():
        await db.copy_records_to_table("st", records=rows, columns=COLUMNS)
        await db.execute("INSERT INTO raw_telemetry SELECT * FROM st ON CONFLICT DO NOTHING")


async def run(options: argparse.Namespace) -> None:
    """Consume the topic until `--rows` rows are stored, then print the result."""
    free = []
    for _ in range(options.in_flight):
        db = await asyncpg.connect(options.database)
        await db.execute("CREATE TEMP TABLE st (LIKE raw_telemetry) ON COMMIT DELETE ROWS")
        free.append(db)
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.kafka,
        group_id=f"floor-{os.getpid()}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_bytes=50 << 20,
    )
    await consumer.start()
    decode = msgspec.json.Decoder(Reading).decode
    under_way: collections.deque[tuple[asyncio.Task[None], Any, dict[Any, int], int]] = collections.deque()
    stored, started, cpu = 0, 0.0, 0.0

    async def oldest() -> None:
        nonlocal stored
        task, db, offsets, count = under_way.popleft()
        await task
        await consumer.commit(offsets)
        free.append(db)
        stored += count

    while stored < options.rows:
        got = await consumer.getmany(timeout_ms=20 if under_way else 500, max_records=options.batch)
        if got and not started:
            started, cpu = time.perf_counter(), time.process_time()
        if not got:
            while under_way:
                await oldest()
            continue
        rows, offsets = [], {}
        for tp, records in got.items():
            for record in records:
                r = decode(record.value)
                extra = f'{{"humidity": {r.humidity}}}'
                rows.append((r.time, r.user_id, r.device_id, r.sequence_id, r.temperature, r.battery, extra))
            offsets[tp] = records[-1].offset + 1
        if not free:
            await oldest()
        db = free.pop()
        under_way.append((asyncio.create_task(write(db, rows, options.straight)), db, offsets, len(rows)))
        await asyncio.sleep(0)
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"rows": stored, "seconds": seconds, "cpu": spent}), flush=True)
    await consumer.stop()
    for db in free:
        await db.close()


def main() -> None:
    """Run with the options of the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--in-flight", type=int, default=3)
    parser.add_argument("--straight", action="store_true", help="COPY into the table itself")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
