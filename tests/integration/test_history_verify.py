"""`iot-stream history verify` on a real Kafka, PostgreSQL and worker: what is missing, extra, left out and dead."""

import asyncio
import json
import re
import signal
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from app.core.model.headers import PACKET_ID, REDELIVERED, RETAINED
from app.history.verification.ledger import VerifyLedger, VerifyVerdict
from app.history.verification.verify import VerifyRequest, verify
from app.kafka.access import Access
from app.kafka.reading.offset_ranges import PartOfTopic, offset_range
from app.kafka.topics import create, wanted
from tests.integration.history_rig import BEGIN, admin_of, handled, history, reading, running, send
from tests.integration.test_dlq_path import run as run_block
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, until
from tools.command import ROOT, Done

pytestmark = pytest.mark.integration

PAGE = (ROOT / "docs" / "history.md").read_text()

PARTITIONS = 3
BEFORE = BEGIN - timedelta(hours=1)  # when the first record of each partition was written
WRITTEN = BEGIN + timedelta(minutes=30)  # when the others were, at the least
SAMPLING = {"cov": [{"keys": {"temperature": {"absolute": 1}}, "heartbeat_seconds": 300, "devices": ["d1"]}]}


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    """Each partition begins with a record of an hour before the others: later rows must have their records here."""
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"kafka_partitions": PARTITIONS})
    await made.prepare([])
    for partition in range(PARTITIONS):
        payload = reading(1_000_000 + partition, time=BEFORE.isoformat())
        topic = f"users/{unique}/devices/first/telemetry"
        await send(made, [payload], topic=topic, partition=partition, written=BEFORE)
    return made


def ledger(done: Done, code: int) -> dict[str, Any]:
    """The JSON of a verification that ended with this code."""
    assert done.code == code, done
    found: dict[str, Any] = json.loads(done.out)
    accounted = sum(found["dropped"].values()) + found["doubtful"]["count"] + found["missing"]["count"]
    names = ("not_asked", "rows", "redelivered", "dead", "carried_out", "expired", "letters_gone")
    assert accounted + sum(found[name] for name in names) == found["records"]
    return found


class Watch:
    """Stops after so many chunks of records, or never (None)."""

    def __init__(self, chunks: int | None = None) -> None:
        self._left, self.whole, self.searched = chunks, 0, list[str]()

    @property
    def stopped(self) -> bool:
        return self._left == 0

    def begins(self, records: int) -> None:
        self.whole = records

    def read(self, ledger: VerifyLedger) -> None:
        assert ledger.balances
        self._left = None if self._left is None else self._left - 1

    def seen(self, what: str, count: int) -> None:
        self.searched.append(what)


async def stored(site: Site, first: int, last: int, **fields: object) -> None:
    """Readings of one device in partition 0, with a worker that stores them."""
    with site.program("worker") as worker:
        await worker.ready()
        payloads = [reading(number, **fields) for number in range(first, last)]
        await send(site, payloads, partition=0, written=WRITTEN)
        await site.settled_input()


async def test_a_missing_row_and_an_extra_row_are_found(site: Site) -> None:
    await stored(site, 0, 500)
    found = ledger(await history(site, "verify", "--json"), 0)
    assert (found["verdict"], found["records"], found["rows"], found["extra"]["count"]) == ("complete", 503, 503, 0)
    assert datetime.fromisoformat(found["extra_since"]) == BEFORE + timedelta(minutes=6)

    await site.fetch("DELETE FROM raw_telemetry WHERE sequence_id IN (137, 300)")
    at = BEGIN + timedelta(minutes=30)
    insert = "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id) VALUES ($1, $2, $3, $4)"
    await site.fetch(insert, at, site.unique, "d1", 7)
    await site.fetch(insert, at, "nobody", "d1", 8)
    found = ledger(await history(site, "verify", "--json", "--examples", "1"), 1)
    assert (found["verdict"], found["missing"]["count"], found["first_missing"]) == ("missing", 2, {"0": 138})
    (example,) = found["missing"]["examples"]
    assert (example["partition"], example["offset"], example["wanted"]) == (0, 138, "row")
    assert example["what"].startswith(f"{site.unique}/d1, sequence_id 137 of ")
    assert found["extra"]["count"] == 2

    said = await history(site, "verify")
    assert said.code == 1
    assert f"missing: {site.settings.kafka_topic}-0@138: no row: {site.unique}/d1, sequence_id 137 of " in said.out
    assert "extra: nobody/d1, sequence_id 8 of " in said.out
    (cure,) = re.findall("iot-stream history (reset .*)", said.error)
    assert cure == "reset --offset 0:138"
    moves = (await history(site, *cure.split(), "--json")).json["partitions"]
    assert [(one["partition"], one["to"]) for one in moves] == [(0, 138)]


async def test_extra_rows_alone_fail_only_where_it_is_strict(site: Site) -> None:
    await stored(site, 0, 5)
    insert = "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id) VALUES ($1, 'nobody', 'd', 1)"
    await site.fetch(insert, BEGIN + timedelta(minutes=30))
    assert ledger(await history(site, "verify", "--json"), 0)["extra"]["examples"] == [
        {
            "time": (BEGIN + timedelta(minutes=30)).isoformat().replace("+00:00", "Z"),
            "user_id": "nobody",
            "device_id": "d",
            "sequence_id": 1,
        }
    ]
    ledger(await history(site, "verify", "--json", "--strict"), 1)
    assert ledger(await history(site, "verify", "--json", "--strict", "--no-extra"), 0)["extra"] is None


async def test_what_policies_leave_out_is_not_missing(site: Site) -> None:
    await site.fetch("ALTER TABLE user_configs DISABLE TRIGGER USER")  # it would say that the change is of now
    sql = "UPDATE user_configs SET sampling = $2, updated_at = now() - interval '1 day' WHERE user_id = $1"
    await site.fetch(sql, site.unique, json.dumps(SAMPLING))
    node = f"iot/{site.unique}/s1/telemetry"
    undated = b'{"value":1.50}'
    with site.program("worker") as worker:
        await worker.ready()
        values = [20, 20.4, 20.9, 22, 22.5, 23.5]
        await send(site, [reading(n, temperature=t) for n, t in enumerate(values)], partition=0, written=WRITTEN)
        await send(site, [b"", None], partition=1, written=WRITTEN)
        await send(site, [undated], topic=node, partition=1, written=WRITTEN, more=[(PACKET_ID, b"7")])
        again = [(PACKET_ID, b"7"), (REDELIVERED, b"1")]
        await send(site, [undated], topic=node, partition=1, written=WRITTEN + timedelta(seconds=1), more=again)
        await send(site, [undated], topic=node, partition=1, written=WRITTEN, more=[(RETAINED, b"1")])
        await send(site, [b"online"], topic=f"iot/{site.unique}/status", partition=1, written=WRITTEN)
        await send(site, [reading(0, temperature=20)], partition=0, written=WRITTEN)  # once more
        await site.settled_input()
    rows = await site.fetch("SELECT sequence_id FROM raw_telemetry WHERE device_id = 'd1' ORDER BY 1")
    assert [row[0] for row in rows] == [0, 3, 5], "the worker leaves the others out"
    found = ledger(await history(site, "verify", "--json"), 0)
    assert (found["records"], found["rows"], found["missing"]["count"]) == (16, 8, 0)
    assert found["dropped"] == {"cov": 3, "empty": 2, "retained": 1}
    assert (found["redelivered"], found["carried_out"], found["repeats"]) == (1, 1, 1)
    await site.fetch("DELETE FROM raw_telemetry WHERE sequence_id = 3")
    assert ledger(await history(site, "verify", "--json"), 1)["first_missing"] == {"0": 4}, "it is beyond the dead-band"
    await site.fetch("UPDATE user_configs SET updated_at = now() WHERE user_id = $1", site.unique)
    found = ledger(await history(site, "verify", "--json"), 0)
    assert (found["doubtful"]["count"], found["missing"]["count"]) == (2, 0), "it may have been set otherwise then"
    ledger(await history(site, "verify", "--json", "--strict"), 1)


async def test_dead_letters_are_matched_and_one_that_vanished_is_missing(site: Site) -> None:
    await site.fetch("ALTER TABLE raw_telemetry ADD CHECK (battery < 50)")
    bad = [b"{", reading(1, battery=90.5), b'"x"', reading(2, time="2020-01-01T00:00:00Z"), reading(3, battery=80)]
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, [reading(0), *bad], partition=0, written=WRITTEN)
        await site.settled_input()
    found = ledger(await history(site, "verify", "--json"), 0)
    assert (found["records"], found["rows"], found["dead"]) == (9, 4, 5), "one of them by the database"

    async with admin_of(site) as admin:
        await admin.delete_topics([site.settings.kafka_dlq_topic])
    await create(Access(site.kafka), wanted(site.settings), 1)
    found = ledger(await history(site, "verify", "--json", "--examples", "9"), 1)
    assert found["missing"]["count"] == 5
    examples = {one["offset"]: (one["wanted"], one["what"]) for one in found["missing"]["examples"]}
    assert sorted(examples) == [2, 3, 4, 5, 6]
    assert examples[2][0] == "dead letter"
    assert "(decode: bad_json)" in examples[2][1]
    assert examples[6][0] == "row"


async def test_letters_that_were_purged_are_not_known(site: Site) -> None:
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, [b"{", b"["], partition=0, written=WRITTEN)
        await site.settled_input()
        dlq = TopicPartition(site.settings.kafka_dlq_topic, 0)
        async with admin_of(site) as admin:
            await admin.delete_records({dlq: RecordsToDelete(before_offset=2)})
        found = ledger(await history(site, "verify", "--json"), 0)
        assert (found["letters_gone"], found["missing"]["count"]) == (2, 0)


async def test_a_part_of_the_topic_by_user_partition_offset_and_time(site: Site) -> None:
    late = WRITTEN + timedelta(minutes=30)
    node = "users/alice/devices/a1/telemetry"
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, [reading(number) for number in range(20)], partition=0, written=WRITTEN)
        await send(site, [reading(number) for number in range(20, 30)], partition=1, written=late)
        await send(site, [reading(number) for number in range(5)], topic=node, partition=2, written=late)
        await site.settled_input()
    await site.fetch("DELETE FROM raw_telemetry WHERE sequence_id IN (3, 25) AND device_id <> 'a1'")

    async def missing(*words: str) -> tuple[int, dict[str, int], int]:
        done = await history(site, "verify", "--json", *words)
        found = ledger(done, 1 if json.loads(done.out)["missing"]["count"] else 0)
        assert (found["extra"] or {"count": 0})["count"] == 0, "records outside of the range have their rows"
        return found["records"], found["first_missing"], found["not_asked"]

    assert await missing() == (38, {"0": 4, "1": 6}, 0)
    assert await missing("--user", "alice") == (38, {}, 33)
    assert await missing("--user", site.unique) == (38, {"0": 4, "1": 6}, 5)
    assert await missing("--partition", "1", "--partition", "2") == (17, {"1": 6}, 0)
    assert await missing("--offset", "0:5-") == (16, {}, 0)
    assert await missing("--offset", "0:2-4") == (3, {"0": 4}, 0)
    between = (WRITTEN + timedelta(minutes=10)).isoformat()
    assert await missing("--since", between) == (15, {"1": 6}, 0)
    assert await missing("--until", between) == (23, {"0": 4}, 0)


async def test_another_table_and_what_is_not_committed_yet(site: Site) -> None:
    await site.fetch("CREATE TABLE again (LIKE raw_telemetry INCLUDING ALL)")
    await send(site, [reading(number) for number in range(10)], partition=0, written=WRITTEN)
    nobody = await history(site, "verify")
    assert (nobody.code, nobody.out) == (1, "")
    assert f"the group {site.settings.group_id} has committed nothing of" in nobody.error
    found = ledger(await history(site, "verify", "--uncommitted", "--json"), 1)
    assert found["missing"]["count"] == 13
    await stored(site, 10, 20)
    await send(site, [reading(number) for number in range(20, 25)], partition=0, written=WRITTEN)
    found = ledger(await history(site, "verify", "--json"), 0)
    assert (found["records"], found["waiting"]) == (23, 5)
    await site.fetch("INSERT INTO again SELECT * FROM raw_telemetry WHERE sequence_id > 0")
    assert ledger(await history(site, "verify", "--table", "again", "--json"), 1)["first_missing"] == {"0": 1}
    gone = await history(site, "verify", "--table", "never_made")
    assert (gone.code, gone.out) == (1, "")
    assert "never_made" in gone.error
    assert len(gone.error.splitlines()) == 1


async def test_many_chunks_and_an_end_by_hand(site: Site) -> None:
    """12,000 records are three chunks; a stop is obeyed after the one at hand, and the rest is named."""
    await stored(site, 0, 12_000)
    asked = VerifyRequest(PartOfTopic(), group=site.settings.group_id)
    watch = Watch()
    found = await verify(site.settings, asked, watch)
    assert (found.verdict, found.records, found.rows, watch.whole) == (VerifyVerdict.COMPLETE, 12_003, 12_003, 12_003)
    assert set(watch.searched) <= {"dead letters", "rows of the table"}, "no row is left to look for"
    stopped = await verify(site.settings, asked, Watch(1))
    assert (stopped.verdict, stopped.extra) == (VerifyVerdict.INTERRUPTED, None)
    assert 0 < stopped.records < 12_003
    left = PartOfTopic(offsets=tuple(map(offset_range, stopped.left())))
    rest = VerifyRequest(left, group=site.settings.group_id)
    assert (await verify(site.settings, rest, Watch())).records == 12_003 - stopped.records


async def test_ctrl_c_ends_it_after_the_chunk_at_hand(site: Site) -> None:
    await stored(site, 0, 12_000)
    asked = "SELECT FROM pg_stat_activity WHERE application_name = 'iot-stream history' AND wait_event_type = 'Lock'"

    async def waits() -> bool:
        return bool(await site.fetch(asked))

    blocker = await asyncpg.connect(site.database)
    try:
        await blocker.execute("BEGIN; LOCK TABLE raw_telemetry IN ACCESS EXCLUSIVE MODE")
        async with running(site, "verify") as process:
            await until(waits, 30, lambda: "the command asks nothing")
            process.send_signal(signal.SIGINT)
            await until(lambda: handled(process.pid), 30, lambda: "nobody handles the signal")
            await blocker.execute("ROLLBACK")
            out, error = await asyncio.wait_for(process.communicate(), 30)
    finally:
        await blocker.close()
    assert process.returncode == 130, error.decode()
    assert out.decode().startswith("interrupted: ")
    assert "interrupted; to go on: --offset 0:" in error.decode()


@pytest.mark.parametrize(
    ("words", "settings", "code", "says"),
    [
        (["--partition", "99"], {}, 2, "there is no partition 99"),
        (["--offset", "x"], {}, 2, "no range of offsets"),
        (["--table", "a;b"], {}, 2, "is no name of a table"),
        (["--since", "1h", "--until", "2h"], {}, 2, "it is later than --until"),
        (["--uncommitted", "--group", "x"], {}, 2, "does not go with --group"),
        ([], {"kafka_broker": "127.0.0.1:1"}, 1, "127.0.0.1:1"),
        ([], {"database_url": "postgresql://127.0.0.1:1/x"}, 1, "the database"),
        ([], {"kafka_topic": "never-made"}, 1, "there is no topic never-made"),
        (["--uncommitted"], {"kafka_dlq_topic": "never-made"}, 1, "there is no topic never-made"),
    ],
)
async def test_bad_input_is_one_line(
    site: Site, words: Sequence[str], settings: dict[str, object], code: int, says: str
) -> None:
    done = await history(site, "verify", *words, **settings)
    assert (done.code, done.out) == (code, "")
    assert says in " ".join(done.error.replace("│", " ").split())
    assert "Traceback" not in done.error
    if code == 1:
        assert len(done.error.splitlines()) == 1


async def test_rows_that_retention_removes_are_not_missing(site: Site) -> None:
    """Views as TimescaleDB has them, as this server has none."""
    await stored(site, 0, 10)
    await site.fetch("DELETE FROM raw_telemetry WHERE sequence_id < 4")
    ledger(await history(site, "verify", "--json"), 1)
    await site.fetch("CREATE SCHEMA timescaledb_information")
    await site.fetch(
        "CREATE VIEW timescaledb_information.jobs AS SELECT 'policy_retention' AS proc_name, true AS scheduled,"
        " 'public'::name AS hypertable_schema, 'raw_telemetry'::name AS hypertable_name,"
        """ '{"drop_after": "1 hour"}'::jsonb AS config"""
    )
    found = ledger(await history(site, "verify", "--json"), 0)
    assert (found["expired"], found["missing"]["count"]) == (4, 0)


async def test_the_worked_example_of_the_page(site: Site) -> None:
    """docs/history.md, as it stands there."""
    example = PAGE.partition("## A worked example")[2].partition("\n## ")[0]
    verified, exported = re.findall(r"^```bash\n(.*?)^```", example, re.M | re.S)
    said = re.findall(r"^ {4}(\S.*)$", example, re.M)
    with site.program("worker") as worker:
        await worker.ready()
        topic = "users/alice/devices/truck-1/telemetry"
        await send(site, [reading(number) for number in range(3)], topic=topic, partition=0, written=WRITTEN)
        await site.settled_input()
    await site.fetch("DELETE FROM raw_telemetry WHERE user_id = 'alice' AND sequence_id = 2")
    done = await run_block(site, verified)
    assert done.code == 1, done
    assert said[0] in done.out
    assert said[1] in done.out
    assert said[2] in done.error
    done = await run_block(site, exported)
    assert (done.code, said[3] in done.out) == (0, True), done
    assert len((site.directory / "alice.csv").read_text().splitlines()) == 4
