"""`iot-stream history replay` on a real Kafka and PostgreSQL: each reading a row once, whatever ends the command."""

import asyncio
import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from app.core.model.headers import PACKET_ID, REDELIVERED, RETAINED
from app.history.replay import PACES
from app.kafka.access import Access
from app.kafka.group_state import members_of
from tests.integration.history_rig import BEGIN, audit_lines, count_of, history, numbers, reading, running, send
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, until

pytestmark = pytest.mark.integration

PARTITIONS = 3
TABLE = "readings_again"


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    more = {"kafka_partitions": PARTITIONS, "audit_file": tmp_path / "audit.jsonl"}
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await made.prepare([])
    return made


async def spread(site: Site, count: int, begin: int = 0) -> None:
    """Readings of one device, part of them in each partition."""
    for partition in range(PARTITIONS):
        mine = range(begin + partition, begin + count, PARTITIONS)
        await send(site, [reading(number) for number in mine], partition=partition)


async def has_rows(site: Site, count: int) -> None:
    """Wait until the table has so many rows."""

    async def reached() -> bool:
        return await count_of(site, TABLE) >= count

    await until(reached, 60, lambda: f"fewer than {count} rows")


async def test_the_table_has_what_a_worker_stored_and_no_worker_notices(site: Site) -> None:
    node = f"iot/{site.unique}/s1/telemetry"
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, [reading(number, note=f"n{number}", deep={"a": 1.50}) for number in range(50)], partition=0)
        await send(site, [b"{", None, reading(9, battery=90.5)], partition=0)
        await send(site, [b'{"value":1.50}'], topic=node, partition=1, more=[(PACKET_ID, b"7")])
        await send(site, [b'{"value":1.50}'], topic=node, partition=1, more=[(PACKET_ID, b"7"), (REDELIVERED, b"1")])
        await send(site, [b'{"value":1.50}'], topic=node, partition=1, more=[(RETAINED, b"1")])
        await send(site, [b"online"], topic=f"iot/{site.unique}/status", partition=1)
        await site.settled_input()
        committed, dead = await site.committed(), await site.ends(site.settings.kafka_dlq_topic)

        shown = await history(site, "replay", "--into", TABLE)
        assert shown.code == 0, shown.error
        assert f'57 records of {site.settings.kafka_topic} would be stored into "{TABLE}"' in shown.out
        assert await count_of(site, TABLE) == 0
        assert audit_lines(site.directory / "audit.jsonl") == []

        done = (await history(site, "replay", "--into", TABLE, "--yes", "--json")).json
        assert {name: done[name] for name in ("read", "stored", "there", "again", "other", "dead", "dropped")} == {
            "read": 57, "stored": 51, "there": 0, "again": 1, "other": 1,
            "dead": {"bad_json": 1, "wrong_type": 1}, "dropped": {"empty": 1, "retained": 1},
        }  # fmt: skip
        again, live = [
            await site.fetch(f"SELECT * FROM {table} ORDER BY time, device_id") for table in (TABLE, "raw_telemetry")
        ]
        assert list(map(tuple, again)) == list(map(tuple, live))
        assert await site.committed() == committed
        assert await site.ends(site.settings.kafka_dlq_topic) == dead
        (member,) = await members_of(Access(site.kafka), site.settings.group_id, site.settings.kafka_topic)
        assert member.partitions == (0, 1, 2)
        assert worker.alive
        worker.stop()
    begun, ended = audit_lines(site.directory / "audit.jsonl")
    assert (begun["command"], begun["what"]["table"], begun["what"]["part"]) == ("history replay", f'"{TABLE}"', {})
    assert (ended["outcome"], ended["counts"]["stored"]) == ("done", 51)


async def test_the_same_command_takes_what_has_come_since_and_again_takes_all(site: Site) -> None:
    await spread(site, 30)
    words = ("replay", "--into", TABLE, "--yes")
    assert (await history(site, *words, "--json")).json["stored"] == 30
    assert (await history(site, *words, "--json")).json["read"] == 0
    await spread(site, 6, begin=100)
    assert (await history(site, *words, "--json")).json["stored"] == 6
    again = (await history(site, *words, "--again", "--json")).json
    assert (again["stored"], again["there"]) == (0, 36)
    await site.fetch(f"DROP TABLE {TABLE}")
    assert (await history(site, *words, "--json")).json["stored"] == 36, "a table that is made holds nothing"
    shown = await history(site, *words, "--again")
    assert '0 rows stored into "readings_again", 36 there before; 36 records in ' in shown.out


async def test_a_part_of_the_topic(site: Site) -> None:
    before = datetime.now(UTC) - timedelta(days=3)
    for partition in range(PARTITIONS):
        old = [reading(1000 + partition, time=before.isoformat())]
        await send(site, old, partition=partition, written=before)
    await spread(site, 30)
    offsets = ("--offset", "0:3-5", "--offset", "2:9-")
    assert (await history(site, "replay", "--into", "a", *offsets, "--yes", "--json")).json["stored"] == 5
    assert await numbers(site, "a") == sorted([6, 9, 12, 26, 29])
    assert (await history(site, "replay", "--into", "b", "--until", "2d", "--yes")).code == 0
    assert await numbers(site, "b") == [1000, 1001, 1002]
    since = ("--since", "1h", "--partition", "1")
    assert (await history(site, "replay", "--into", "c", *since, "--yes")).code == 0
    assert await numbers(site, "c") == list(range(1, 30, 3))


async def test_kill_9_loses_nothing_and_stores_nothing_twice(site: Site) -> None:
    count = 20_000
    await spread(site, count)
    words = ("replay", "--into", TABLE, "--yes")
    for begun in (1, 5_001):
        async with running(site, *words, "--rate", "4000") as process:
            await has_rows(site, begun)
            process.kill()
            assert await process.wait() == -signal.SIGKILL
    await spread(site, 6, begin=count)  # of the next replay
    done = (await history(site, *words, "--json")).json
    assert (done["resumed"], done["left"]) == (True, 0)
    assert await numbers(site, TABLE) == list(range(count))
    # A chunk that was stored and not committed before a kill is there for the next command, which may be killed, too.
    chunks = 2 * 4000 // PACES
    assert count - chunks <= done["stored"] + done["there"] + done["stored_before"] <= count
    assert (await history(site, *words, "--json")).json["stored"] == 6


async def test_ctrl_c_ends_it_after_the_chunk_and_it_goes_on_there(site: Site) -> None:
    await spread(site, 3_000)
    words = ("replay", "--into", TABLE, "--yes", "--json")
    async with running(site, *words, "--rate", "500") as process:
        await has_rows(site, 200)
        process.send_signal(signal.SIGINT)
        out, error = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 130, error
    stopped = json.loads(out)
    assert 200 <= stopped["stored"] < 3_000
    assert stopped["left"] == 3_000 - stopped["stored"]
    assert "the same command goes on there" not in error.decode(), "for a machine"
    done = (await history(site, *words)).json
    assert (done["resumed"], done["stored"], done["there"]) == (True, 3_000 - stopped["stored"], 0)
    ends = [line["outcome"] for line in audit_lines(site.directory / "audit.jsonl") if line["phase"] == "end"]
    assert ends == ["interrupted", "done"]


async def test_rows_that_the_table_refuses_are_counted_and_hold_up_no_other(site: Site) -> None:
    await spread(site, 30)
    assert (await history(site, "replay", "--into", TABLE, "--offset", "0:0", "--yes")).code == 0
    await site.fetch(f"ALTER TABLE {TABLE} ADD CONSTRAINT not_seven CHECK (sequence_id <> 7)")
    done = await history(site, "replay", "--into", TABLE, "--yes")
    assert done.code == 0, done.error
    assert "1 dead: refused_by_database" in done.out
    assert '28 rows stored into "readings_again", 1 there before, 1 dead; 30 records in ' in done.out


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("CREATE TABLE readings_again (time timestamptz)", "has no column user_id; "),
        ("CREATE TABLE readings_again (time timestamptz)", ": name another table; one that is not there is made"),
        ("CREATE TABLE readings_again (LIKE raw_telemetry)", "would keep rows twice"),
    ],
)
async def test_a_table_of_another_shape_is_refused_before_anything_is_read(site: Site, made: str, said: str) -> None:
    await site.fetch(made)
    done = await history(site, "replay", "--into", TABLE, "--yes")
    assert (done.code, done.error.count("\n"), said in done.error) == (1, 1, True), done.error


async def test_what_is_in_the_live_table_is_not_touched(site: Site) -> None:
    """Lost rows can be stored again beside a running worker: by their key."""
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, [reading(number) for number in range(10)])
        await site.settled_input()
        await site.fetch("DELETE FROM raw_telemetry WHERE sequence_id < 4")
        await site.fetch("UPDATE raw_telemetry SET temperature = 99 WHERE sequence_id = 5")
        done = (await history(site, "replay", "--into", "raw_telemetry", "--yes", "--json")).json
        assert (done["stored"], done["there"]) == (4, 6)
        worker.stop()
    assert await numbers(site) == list(range(10))
    rows = await site.fetch("SELECT sequence_id FROM raw_telemetry WHERE temperature = 99")
    assert [row[0] for row in rows] == [5]


async def test_one_line_where_a_server_is_away_or_refuses(site: Site) -> None:
    await spread(site, 3)
    words = ("replay", "--into", TABLE, "--yes", "--timeout", "1")
    topic, kafka, database, missing = await asyncio.gather(
        history(site, *words, kafka_topic="no-such-topic"),
        history(site, *words, kafka_broker="127.0.0.1:1"),
        history(site, *words, database_url="postgresql://127.0.0.1:1/iot"),
        history(site, *words, database_url=site.database.replace(site.unique, "nothing")),
    )
    for done, said in ((topic, "no-such-topic"), (kafka, "Kafka"), (database, "database"), (missing, "nothing")):
        assert (done.code, done.error.count("\n"), said in done.error) == (1, 1, True), done.error
    outside = await history(site, "replay", "--into", TABLE, "--partition", "9")
    assert (outside.code, "--partition" in outside.error) == (2, True)


async def test_a_database_that_is_away_for_a_while_is_waited_for(site: Site) -> None:
    """Connections that the server ends in the middle of a write: the command connects anew, three times."""
    await spread(site, 3_000)
    assert (await history(site, "replay", "--into", TABLE, "--offset", "0:0", "--yes")).code == 0
    connection = await asyncpg.connect(site.database)

    async def cut() -> bool:
        ended = await site.fetch(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'iot-stream history' AND wait_event_type = 'Lock'"
        )
        return bool(ended)

    try:
        async with running(site, "replay", "--into", TABLE, "--yes", "--json", "--rate", "2500") as process:
            async with connection.transaction():  # its key holds up the chunk that has the same
                at = BEGIN + timedelta(milliseconds=100 * 1_500)
                insert = f"INSERT INTO {TABLE} (time, user_id, device_id, sequence_id) VALUES ($1, $2, 'd1', 1500)"
                await connection.execute(insert, at, site.unique)
                for _ in range(3):
                    await until(cut, 60, lambda: "no write waits for the key")
                await connection.execute(f"DELETE FROM {TABLE} WHERE sequence_id = 1500")
            out, error = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 0, error
    finally:
        await connection.close()
    done = json.loads(out)
    assert (done["read"], done["stored"], done["there"]) == (3_000, 2_999, 1)
    assert await numbers(site, TABLE) == list(range(3_000))
