"""A worker as a process: `faust -A tests.contract.stream.faust_program worker`, with its orders in the environment.

TEST_STORE: quick, slow (a second for each write) or never (a write that does not end). Stored offsets go to TEST_FILE.
TEST_LOSE=1: batches vanish on their way to the pipeline.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from app.core.batch.copy_policy import PartitionEpoch
from app.core.batch.effects import Effect, WriteResult
from app.core.batch.output import BatchOutput
from app.core.model.records import Row
from app.pipeline.pipeline import Pipeline
from app.ports import Ports, Unlimited
from app.stream.batch_reader import FaustBatch, FaustSource
from app.worker.watchdog import Watchdog
from tests.contract.stream.faust_worker import Worker
from tests.pipeline.world import InOneSlice, Life, MemoryDeadLetters, MemoryLedger, MemoryOutbox, MemoryStates, World

FILE = Path(os.environ["TEST_FILE"])
SECONDS = {"quick": 0.0, "slow": 1.0, "never": 3600.0}[os.environ.get("TEST_STORE", "quick")]


class FileStore:
    """A line `partition offset` for each row, once it is durable; says `begin` first, for the test to wait for."""

    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        append(FILE.with_suffix(".begun"), ["begin\n"])
        await asyncio.sleep(SECONDS)
        append(FILE, [f"{row[0]} {row[1]}\n" for row in rows])
        return WriteResult(len(rows))


def append(path: Path, lines: list[str]) -> None:
    with path.open("a") as file:
        file.writelines(lines)


def process(batch: Any, now: float) -> BatchOutput:
    work = BatchOutput()
    work.rows += [(batch.partition, record.offset) for record in batch.records]
    work.sources += batch.records
    return work


class Losing(FaustSource):
    """What the watchdog is for: a batch that is handed over and nowhere in work."""

    async def batches(self) -> AsyncIterator[FaustBatch]:
        async for batch in super().batches():
            batch._event.message.in_work = False
            if not os.environ.get("TEST_LOSE"):
                yield batch


worker = Worker(os.environ["TEST_BROKER"], os.environ["TEST_TOPIC"], os.environ["TEST_TOPIC"], FILE.parent)
app = worker.app
interrupt = asyncio.Event()
world, life = World(), Life()
pipeline = Pipeline(
    Ports(
        FileStore(),
        MemoryDeadLetters(world, life.tick),
        MemoryOutbox(world, life.tick),
        MemoryStates(world, life.tick),
        MemoryLedger(),
        Unlimited(),
    ),
    InOneSlice(process),
    4,
    interrupt,
)
worker.transport.drain = lambda: pipeline.drain(2.0)


async def take(stream: Any) -> None:
    await pipeline.run(Losing(stream, worker.consumer.reader))


worker.work = take


@app.task  # type: ignore[untyped-decorator]
async def watch() -> None:
    await Watchdog(1.0).watch(worker.consumer)
