"""A broker with a truncated log, as after an unclean election: the topic is the same, its offsets are not.

The Parquet sink has files of records that Kafka has lost, under offsets that other records get.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer

from app.kafka.access import access
from app.kafka.topics import create, wanted
from app.local.servers.kafka import Kafka
from app.settings import Settings
from app.sinks.parquet.sink import ParquetSink
from app.sinks.running.clients import sink_kafka
from app.sinks.running.runner import SinkRunner
from app.sinks.sink_metrics import LOGS_ANEW
from tests.sink_records import message
from tests.unit.sinks.parquet.lake import files
from tests.waiting import until

pytestmark = pytest.mark.integration

SECONDS = 60.0


class CutLog:
    """A topic of one partition, and a lake."""

    def __init__(self, broker: Kafka, directory: Path) -> None:
        self.broker, self.lake, self.sent = broker, directory / "lake", 0
        self.settings = Settings(
            _env_file=None, app="cut", kafka_broker=broker.bootstrap, kafka_topic="cut-in", kafka_dlq_topic="cut-dlq",
            kafka_alerts_topic="cut-alerts", kafka_partitions=1, kafka_session_timeout=6.0, kafka_commit_interval=0.1,
            sink_retry_max=0.2, parquet_dir=str(self.lake), parquet_rotate_seconds=1,
        )  # fmt: skip

    async def send(self, count: int) -> None:
        """Append readings with the next numbers."""
        async with AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap) as producer:
            for _ in range(count):
                one = message(self.sent, device=f"d{self.sent % 10}")
                self.sent += 1
                await producer.send_and_wait(
                    self.settings.kafka_topic, one.value, one.key, 0, headers=list(one.headers)
                )

    @asynccontextmanager
    async def sink(self) -> AsyncIterator[SinkRunner]:
        """A process of the sink; stopped at the end."""
        stop = asyncio.Event()
        sink = ParquetSink("parquet", self.settings)
        runner = SinkRunner(self.settings, sink, stop, sink_kafka(self.settings, "parquet", stop))
        task = asyncio.create_task(runner.run())
        try:
            yield runner
            assert not task.done() or task.result() is None
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)

    def cut(self) -> None:
        """Kill the broker, remove half of its log on the disk, and start the broker."""
        self.broker.kill()
        (log,) = (self.broker.data_dir / "log" / "cut-in-0").glob("*.log")
        with log.open("r+b") as file:
            file.truncate(log.stat().st_size // 2)
        for index in (*log.parent.glob("*index"), *log.parent.glob("*.snapshot")):
            index.unlink()
        self.broker.start()
        self.broker.wait_ready()

    def rows(self) -> Counter[int]:
        """The count of each number in the lake."""
        found = Counter[int]()
        for path in files(self.lake):
            found.update(pq.ParquetFile(path).read(["sequence_id"])[0].to_pylist())
        return found


@pytest.fixture
def broker(server_dir: Path) -> Iterator[Kafka]:
    made = Kafka(server_dir / "kafka")
    made.start()
    made.wait_ready()
    yield made
    made.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is away"])
async def test_no_row_is_lost_or_doubled(broker: Kafka, tmp_path: Path, running: bool) -> None:
    site = CutLog(broker, tmp_path)
    await create(access(site.settings), wanted(site.settings), 1)
    said = LOGS_ANEW.labels("parquet")._value.get()
    await site.send(400)
    async with site.sink():
        await until(lambda: len(site.rows()) == 400, SECONDS)
        if running:
            await asyncio.to_thread(site.cut)
            await site.send(50)
            await until(lambda: len(site.rows()) == 450, SECONDS)
    if not running:
        await asyncio.to_thread(site.cut)
        await site.send(50)
        async with site.sink():
            await until(lambda: len(site.rows()) == 450, SECONDS)
    async with site.sink():
        await site.send(400)  # beyond its former end
        await until(lambda: len(site.rows()) == 850, SECONDS)
    assert site.rows() == Counter(range(850)), "each once"
    assert LOGS_ANEW.labels("parquet")._value.get() - said == 1, "decided once"
