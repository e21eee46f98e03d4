"""The Parquet sink on a bucket of a real server, and DuckDB's queries of its files."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from app.settings import Settings
from app.sinks.parquet.compact import compact
from app.sinks.parquet.lake import lake_of
from app.sinks.parquet.names import parsed
from app.sinks.parquet.sink import ParquetSink
from app.sinks.parquet.stored import LakeStore
from app.sinks.port import SinkUnavailable
from tests.s3 import S3Server, s3_server, s3_settings
from tests.unit.sinks.parquet.lake import Place, expected, named, records, sink
from tests.unit.sinks.parquet.stores import DiedError, HookedStore, die, nothing

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def lake(s3: S3Server, unique: str) -> Settings:
    return Settings(**s3_settings(s3, unique))


def places(lake: Settings) -> list[Place]:
    """(partition, offset) of every row of every file in the bucket, in order."""
    store, _ = lake_of(lake)
    found: list[Place] = []
    for file in store.list():
        if parsed(file.path):
            table = pq.ParquetFile(store.input(file.path)).read(["kafka_partition", "kafka_offset"])
            found += zip(table[0].to_pylist(), table[1].to_pylist(), strict=True)
    return sorted(found)


async def test_a_bucket_gets_each_record_once(lake: Settings) -> None:
    for at in range(3):
        one = ParquetSink("parquet", lake, named())
        await one.open()
        assert await one.resume("iot-stream", [0, 1]) == ({0: at * 100, 1: at * 10} if at else {})
        one.add([*records(0, at * 100 + 100), *records(at * 10, at * 10 + 10, partition=1)])
        assert (await one.flush()).upto == {0: at * 100 + 100, 1: at * 10 + 10}
        await one.close()
    everything = expected(range(300)) + expected(range(30), partition=1)
    assert places(lake) == everything
    done = compact(lake)
    assert (done.merged, done.made) == (4, 2)
    assert places(lake) == everything


async def test_a_process_may_end_at_any_request(s3: S3Server, unique: str) -> None:
    for after in (False, True):
        for at in count():
            lake = Settings(**s3_settings(s3, f"{unique}-{at}-{after}"))
            store: LakeStore = lake_of(lake)[0]
            hooked = HookedStore(store, at, *((nothing, die) if after else (die, nothing)))
            with suppress(DiedError):
                await write(lake, 100, hooked)
            await write(lake, 150)
            assert places(lake) == expected(range(150)), f"request {at}"
            if hooked.calls <= at:
                break


async def write(lake: Settings, after: int, store: LakeStore | None = None) -> None:
    """Write from the end of the lake up to the offset `after`."""
    one = ParquetSink("parquet", lake, named(), store)
    start = (await one.resume("iot-stream", [0])).get(0, 0)
    one.add(records(start, after))
    await one.flush()
    await one.close()


async def test_a_bucket_that_refuses_or_is_slow_costs_time_and_no_record(s3: S3Server, lake: Settings) -> None:
    one = ParquetSink("parquet", lake, named())
    await one.open()
    one.add(records(0, 5000))
    s3.status = 503
    try:
        with pytest.raises(SinkUnavailable, match=r"503|UNAVAILABLE"):
            await one.flush()
    finally:
        s3.status = None
    s3.delay = 0.2
    try:
        since, worst = time.monotonic(), 0.0
        flush = asyncio.create_task(one.flush())
        while not flush.done():  # the event loop is not blocked meanwhile
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - begun)
        assert (await flush).upto == {0: 5000}
        seconds = time.monotonic() - since
        assert seconds > 1.0
        assert worst < seconds / 2
    finally:
        s3.delay = 0.0
    assert places(lake) == expected(range(5000))


async def test_the_queries_of_the_documentation_run(tmp_path: Path) -> None:
    one = sink(tmp_path, parquet_compression="zstd")
    one.add([*records(0, 3000), *records(0, 100, partition=1)])
    await one.flush()
    page = (DOCS / "sinks.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", page.partition("## Parquet")[2].partition("\n## ")[0], re.S)
    assert len(queries) >= 3
    answers: list[list[tuple[Any, ...]]] = []
    with duckdb.connect() as connection:
        for query in queries:
            made = query.replace("/data/lake", str(tmp_path))
            answers.append(connection.execute(made).fetchall())
        connection.execute(f"SELECT count(*) FROM read_parquet('{tmp_path}/day=*/*.parquet')")
        assert connection.fetchall() == [(3100,)]
    assert all(answers), "each of them finds rows in this lake"
    assert 'pyarrow.dataset.dataset("/data/lake", partitioning="hive")' in page
    found = pyarrow.dataset.dataset(tmp_path, partitioning="hive")
    assert found.count_rows() == 3100, "what begins with an underscore is left alone"
    assert found.schema.names[-1] == "day"
