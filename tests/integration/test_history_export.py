"""`iot-stream history export` on a real Kafka and PostgreSQL: the same readings in files as in the table."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from app.errors import PermanentError
from app.history.exporting.export import ExportOrigin, ExportRequest, export
from app.kafka.access import Access
from app.kafka.reading.offset_ranges import PartOfTopic
from app.kafka.topics import create, wanted
from app.postgres.queries.telemetry_rows import PAGE
from tests.integration.history_rig import BEGIN, admin_of, history, reading, running, send
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, until

pytestmark = pytest.mark.integration

PARTITIONS = 3
COLUMNS = "time, user_id, device_id, sequence_id, temperature, battery, extra_data::text"


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"kafka_partitions": PARTITIONS})
    await made.prepare([])
    return made


class Watch:
    """Stops after so many chunks, or never (None)."""

    def __init__(self, chunks: int | None = None) -> None:
        self._left = chunks

    @property
    def stopped(self) -> bool:
        return self._left is not None and self._left <= 0

    def begins(self, whole: int) -> None:
        pass

    def read(self, done: int, rows: int) -> None:
        assert rows <= done
        self._left = None if self._left is None else self._left - 1


async def spread(site: Site, count: int) -> None:
    """Readings of one device in all partitions, and three records that are none in the first one."""
    for partition in range(PARTITIONS):
        mine = range(partition, count, PARTITIONS)
        payloads = [reading(number, battery=number % 100, note=f'n,"{number}"', deep={"a": 1.50}) for number in mine]
        await send(site, payloads, partition=partition)
    await send(site, [b"{", b""], partition=0)
    await send(site, [b"online"], topic=f"iot/{site.unique}/status", partition=0)


async def stored(site: Site, count: int) -> list[tuple[Any, ...]]:
    """The rows that a worker makes of that."""
    await spread(site, count)
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
    return await rows_of(site)


async def rows_of(site: Site) -> list[tuple[Any, ...]]:
    rows = await site.fetch(f"SELECT {COLUMNS} FROM raw_telemetry ORDER BY sequence_id")
    return [(*row[:6], json.loads(row[6])) for row in rows]


def read(path: Path) -> list[tuple[Any, ...]]:
    """The rows of a Parquet file or of all in a directory, without their origin, as `rows_of` has them."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    table = pa.concat_tables([pq.read_table(file) for file in files])
    rows = [tuple(row.values())[:7] for row in table.to_pylist()]
    return sorted(((*row[:6], json.loads(row[6])) for row in rows), key=lambda row: row[3])


async def test_records_as_parquet_are_the_rows_that_a_worker_made(site: Site, tmp_path: Path) -> None:
    rows = await stored(site, 100)
    path = tmp_path / "x.parquet"
    found = (await history(site, "export", "--output", path, "--json")).json
    assert (found["rows"], found["records"], found["files"]) == (100, 103, ["x.parquet"])
    assert (found["refused"], found["left_out"], found["carried_out"]) == ({"bad_json": 1}, {"empty": 1}, 1)
    assert read(path) == rows
    places = pq.read_table(path).select(["kafka_partition", "kafka_offset"]).to_pylist()
    assert len({tuple(one.values()) for one in places}) == 100
    told = await history(site, "export", "--output", path)
    assert told.code == 0
    assert "100 rows of 103 records in 1 file: " in told.out
    assert "bad_json" in told.out


async def test_csv_goes_back_into_a_table_exactly(site: Site, tmp_path: Path) -> None:
    rows = await stored(site, 50)
    await site.fetch("CREATE TABLE back (LIKE raw_telemetry INCLUDING ALL)")
    for name, origin in (("topic.csv", ()), ("table.csv", ("--from", "table"))):
        path = tmp_path / name
        assert (await history(site, "export", "--output", path, *origin, "--json")).json["rows"] == 50
        connection = await asyncpg.connect(site.database)
        try:
            extra = "" if origin else ", kafka_partition int, kafka_offset bigint"
            await connection.execute(f"CREATE TABLE staged (LIKE raw_telemetry{extra})")
            await connection.copy_to_table("staged", source=path, format="csv", header=True)
            names = "time, user_id, device_id, sequence_id, temperature, battery, extra_data"
            await connection.execute(f"INSERT INTO back SELECT {names} FROM staged; DROP TABLE staged")
        finally:
            await connection.close()
        back = await site.fetch(f"SELECT {COLUMNS} FROM back ORDER BY sequence_id")
        assert [(*row[:6], json.loads(row[6])) for row in back] == rows
        await site.fetch("DELETE FROM back")


async def test_rows_of_a_table_page_by_page_and_by_time(site: Site, tmp_path: Path) -> None:
    count = 2 * PAGE + 1
    await site.fetch(
        "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature)"
        " SELECT $1::timestamptz + n / 2 * interval '1 second', 'u' || n % 2, 'd', n, n"
        " FROM generate_series(0, $2::int - 1) AS n",
        BEGIN, count,
    )  # fmt: skip
    path = tmp_path / "x.parquet"
    assert (await history(site, "export", "--from", "table", "--output", path, "--json")).json["rows"] == count
    assert [row[3] for row in read(path)] == list(range(count))
    assert "kafka_offset" not in pq.read_table(path).column_names
    since, until_then = ((BEGIN + timedelta(seconds=seconds)).isoformat() for seconds in (10, 12))
    words = ("--user", "u1", "--since", since, "--until", until_then)
    await history(site, "export", "--from", "table", "--output", path, *words)
    assert [row[3] for row in read(path)] == [21, 23, 25]
    folder = tmp_path / "days"
    assert (await history(site, "export", "--from", "table", "--output", f"{folder}/", "--json")).json["rows"] == count
    assert Counter(row[3] for row in read(folder)) == Counter(range(count))


async def test_a_part_of_the_topic(site: Site, tmp_path: Path) -> None:
    await spread(site, 30)
    await send(site, [reading(7)], topic="users/alice/devices/a/telemetry", partition=1)
    path = tmp_path / "x.parquet"

    async def numbers(*words: str) -> list[int]:
        done = await history(site, "export", "--output", path, *words)
        assert done.code == 0, done
        return [row[3] for row in read(path)]

    assert await numbers("--partition", "2") == list(range(2, 30, 3))
    assert await numbers("--offset", "0:3-5") == [9, 12, 15]
    assert await numbers("--user", "alice") == [7]
    assert await numbers("--until", "1h") == []


async def test_an_export_into_a_directory_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    rows = await stored(site, 300)
    folder = tmp_path / "parts"
    asked = request(folder)
    first = await export(site.settings, asked, Watch(2))
    assert (first.interrupted, first.parts, first.parts_left) == (True, 3, 2)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert list(before) == first.files
    assert [path.name for path in folder.iterdir() if ".part" in path.name] == []
    await spread(site, 600)  # what comes meanwhile is the next export's
    second = await export(site.settings, asked, Watch())
    assert (second.interrupted, second.parts_left, second.counts.rows, len(second.files)) == (False, 0, 300, 3)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert {name: after[name] for name in before} == before, "a file that is there is not written again"
    assert read(folder) == rows
    third = await export(site.settings, asked, Watch())
    assert (third.before, third.counts) == (True, second.counts)
    other = await history(site, "export", "--output", folder, "--user", "alice")
    assert other.code == 1
    assert "has another export" in other.error
    assert len(other.error.splitlines()) == 1


def request(folder: Path, words: Mapping[str, object] | None = None) -> ExportRequest:
    return ExportRequest(folder, ".parquet", True, PartOfTopic(), words or {"from": "topic"}, None, ExportOrigin.TOPIC)


async def test_kill_9_loses_no_file_that_was_complete(site: Site, tmp_path: Path) -> None:
    await spread(site, 3_000)
    folder = tmp_path / "parts"
    async with running(site, "export", "--output", f"{folder}/") as process:

        async def begun() -> bool:
            return process.returncode is not None or any(folder.glob("*.parquet"))

        await until(begun, 30, lambda: "nothing is written")
        if process.returncode is None:
            process.kill()
        await process.wait()
    for path in folder.glob("*.parquet"):
        assert pq.read_table(path).num_rows > 0
    found = (await history(site, "export", "--output", f"{folder}/", "--json")).json
    assert (found["rows"], found["parts_left"]) == (3_000, 0)
    assert [row[3] for row in read(folder)] == list(range(3_000))
    assert {path.suffix for path in folder.iterdir()} == {".parquet", ".json"}


async def test_a_stop_leaves_no_half_file(site: Site, tmp_path: Path) -> None:
    """The table is locked while the signal comes, before anything is read; and one that comes in the middle."""
    await stored(site, 30)
    path = tmp_path / "x.csv"
    asked = "SELECT FROM pg_stat_activity WHERE application_name = 'iot-stream history' AND wait_event_type = 'Lock'"

    async def waits() -> bool:
        return bool(await site.fetch(asked))

    blocker = await asyncpg.connect(site.database)
    try:
        await blocker.execute("BEGIN; LOCK TABLE raw_telemetry IN ACCESS EXCLUSIVE MODE")
        async with running(site, "export", "--from", "table", "--output", str(path)) as process:
            await until(waits, 30, lambda: "the command asks nothing")
            process.send_signal(signal.SIGINT)
            out, error = await asyncio.wait_for(process.communicate(), 30)
    finally:
        await blocker.close()
    assert (process.returncode, out) == (130, b"")
    assert error == b"iot-stream: interrupted before anything was read\n"
    assert files_of(tmp_path) == []
    stopped = await export(site.settings, replace(request(path), suffix=".csv", into_parts=False), Watch(1))
    assert (stopped.interrupted, stopped.files, files_of(tmp_path)) == (True, [], [])


async def test_a_topic_that_was_made_anew_is_not_taken_for_the_old_one(site: Site, tmp_path: Path) -> None:
    await spread(site, 30)
    folder = tmp_path / "parts"
    assert (await export(site.settings, request(folder), Watch(2))).interrupted
    async with admin_of(site) as admin:
        await admin.delete_topics([site.settings.kafka_topic])
    await create(Access(site.kafka), wanted(site.settings), 1)
    with pytest.raises(PermanentError, match="its topic was made anew since the export began"):
        await export(site.settings, request(folder), Watch())


def files_of(folder: Path) -> list[str]:
    """The files of an export that are there, complete or not."""
    return sorted(path.name for path in folder.iterdir() if "x." in path.name)


@pytest.mark.parametrize(
    ("words", "settings", "code", "says"),
    [
        (["--output", "x.txt"], {}, 2, "ends neither in .parquet nor in .csv"),
        (["--output", "x.csv", "--format", "xml"], {}, 2, "there is no 'xml'"),
        (["--output", "x.csv", "--from", "table", "--offset", "3:1"], {}, 2, "rows have no offsets"),
        (["--output", "x.csv", "--partition", "99"], {}, 2, "there is no partition 99"),
        (["--output", "/proc/none/x.csv"], {}, 1, "cannot write /proc/none/x.csv"),
        (["--output", "/proc/none/"], {}, 1, "cannot use the directory /proc/none"),
        (["--output", "x.csv"], {"kafka_broker": "127.0.0.1:1"}, 1, "127.0.0.1:1"),
        (["--output", "x.csv", "--from", "table"], {"database_url": "postgresql://127.0.0.1:1/x"}, 1, "the database"),
        (["--output", "x.csv", "--from", "table", "--table", "never_made"], {}, 1, 'there is no table "never_made"'),
    ],
)
async def test_bad_input_is_one_line(
    site: Site, words: Sequence[str], settings: dict[str, object], code: int, says: str, tmp_path: Path
) -> None:
    placed = [str(tmp_path / word) if word.startswith("x.") else word for word in words]
    done = await history(site, "export", *placed, **settings)
    assert (done.code, done.out) == (code, "")
    assert says in " ".join(done.error.replace("│", " ").split())
    assert "Traceback" not in done.error
    assert files_of(tmp_path) == []
    if code == 1:
        assert len(done.error.splitlines()) == 1
