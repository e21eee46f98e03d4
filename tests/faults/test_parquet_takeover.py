"""Two Parquet sinks share the partitions, one of them is paused and wakes: each record is in one file, none in two."""

import os
import signal
from pathlib import Path

import pytest

from app.sinks.parquet.compact import compact
from tests.servers import KafkaServer
from tests.workers import until
from tools.faults.sinks.parquet_files import ParquetFiles
from tools.faults.sinks.traffic import SinkTraffic, sink_site

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(600)]

FULL = os.environ.get("IOT_FAULTS") == "full"
PAUSES = 6 if FULL else 1
STEP = 2_000  # messages
RATE = 1_000  # a second


async def other_writes(lake: ParquetFiles) -> None:
    """Wait until there is one file more."""
    before = len(list(lake.directory.glob("day=*/*.parquet")))

    async def written() -> bool:
        return len(list(lake.directory.glob("day=*/*.parquet"))) > before

    await until(written, 60, lambda: "the other one writes nothing")


async def test_a_paused_sink_writes_nothing_that_others_have_written(
    kafka: KafkaServer, unique: str, tmp_path: Path, server_dir: Path
) -> None:
    lake = ParquetFiles(server_dir / "lake")
    site = await sink_site(kafka.bootstrap, unique, tmp_path, [lake])
    traffic = SinkTraffic(site, [lake], RATE)
    async with traffic.flowing():
        first = traffic.sinks["parquet"]
        for number in range(PAUSES):
            await traffic.reached(traffic.stream.sent + STEP)
            os.kill(first.pid, signal.SIGSTOP)  # with rows in memory, or somewhere in a flush
            try:
                with site.program("sink-parquet", f"other-{number}") as other:
                    await other.ready(90)
                    await other_writes(lake)
                    os.kill(first.pid, signal.SIGCONT)
                    await traffic.reached(traffic.stream.sent + STEP)
                    compact(site.settings)  # beside both
                    other.stop()
            finally:
                os.kill(first.pid, signal.SIGCONT)
        await traffic.settled()
    said = await traffic.audited()
    claims = sum(len(one.events("parquet_claim_lost")) for one in traffic.sinks.values())
    print(f"{PAUSES} pauses; {said}; {claims} claims lost")
