"""`iot-stream rules` on a real database: list, set and backtest."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.backtest.summary import BINS
from app.local.servers.common import free_port
from app.postgres.queries.readings import ALONG_THE_KEY, PAGE, query
from tests import DEFAULT
from tools.command import Done, iot_stream
from tools.documents import DOCS

pytestmark = pytest.mark.integration

HOT: dict[str, Any] = {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}
DOOR: dict[str, Any] = {"key": "door", "operator": "==", "threshold": "open", "message": "open"}
LENGTH = timedelta(hours=5)
Stored = tuple[float, float | None, Mapping[str, object]]  # seconds after `began`, temperature, further fields


class Rules:
    """The command, its database and its files."""

    def __init__(self, database: str, directory: Path) -> None:
        self.database, self.directory = database, directory
        self.began = datetime.now(UTC) - LENGTH

    async def run(self, *words: str | Path) -> Done:
        return await iot_stream({"database_url": self.database}, "rules", *words, cwd=self.directory)

    def file(self, rules: object, name: str = "rules.json") -> Path:
        (self.directory / name).write_text(json.dumps(rules))
        return Path(name)

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        connection = await asyncpg.connect(self.database)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    async def store(self, user: str, device: str, readings: Sequence[Stored]) -> None:
        """Rows, in this order."""
        rows = [
            (self.began + timedelta(seconds=s), user, device, n, t, json.dumps(extra))
            for n, (s, t, extra) in enumerate(readings)
        ]
        connection = await asyncpg.connect(self.database)
        try:
            names = ["time", "user_id", "device_id", "sequence_id", "temperature", "extra_data"]
            await connection.copy_records_to_table("raw_telemetry", records=rows, columns=names)
        finally:
            await connection.close()


@pytest.fixture
def rules(database: str, tmp_path: Path) -> Rules:
    return Rules(database, tmp_path)


async def test_set_list_and_what_an_edit_means(rules: Rules) -> None:
    first = await rules.run("set", "alice", rules.file([HOT, DOOR]))
    assert (first.error, first.out) == (
        "", "stored 2 rules of alice: 0 mean what they did, 2 are new or changed, 0 are gone\n")  # fmt: skip
    edited = await rules.run("set", "alice", rules.file({"rules": [{**HOT, "message": "mind the heat"}]}))
    assert edited.out == "stored 1 rules of alice: 1 mean what they did, 0 are new or changed, 1 are gone\n"
    (row,) = await rules.fetch("SELECT * FROM user_configs")
    assert json.loads(row["rules"]) == [{**HOT, "message": "mind the heat"}]
    (listed,) = (await rules.run("list", "--json")).json
    assert (listed["user_id"], listed["rules"], listed["refused"]) == ("alice", json.loads(row["rules"]), [])
    assert datetime.fromisoformat(listed["updated_at"]) == row["updated_at"]
    assert listed["maintenance"] == []
    shown = await rules.run("list")
    (row_of_alice,) = [line.split() for line in shown.out.splitlines()[1:]]
    assert (shown.code, row_of_alice[:2], row_of_alice[-1]) == (0, ["alice", "1"], "ok")
    assert json.loads((await rules.run("list", "--user", "alice")).out) == json.loads(row["rules"])
    assert "has no rules" in (await rules.run("list", "--user", "bob")).error


async def test_set_stores_maintenance_windows_and_leaves_them_when_the_file_has_none(rules: Rules) -> None:
    windows = [{"from": "2026-11-21T22:00:00Z", "until": "2026-11-22T04:00:00Z"}]
    for document in ({"rules": [HOT], "maintenance": windows}, [DOOR]):
        assert (await rules.run("set", "alice", rules.file(document))).error == ""
        (row,) = await rules.fetch("SELECT * FROM user_configs")
        assert json.loads(row["maintenance"]) == windows
    assert json.loads(row["rules"]) == [DOOR]


async def test_a_mistake_refuses_the_set_whole_and_the_old_rules_stay(rules: Rules) -> None:
    assert (await rules.run("set", "alice", rules.file([HOT]))).code == 0
    done = await rules.run("set", "alice", rules.file([DOOR, {**HOT, "operator": "is"}]))
    assert (done.code, done.out) == (1, "")
    assert 'rules.json:1: rules[1].operator: "is" is not one of' in done.error
    (row,) = await rules.fetch("SELECT rules FROM user_configs")
    assert json.loads(row["rules"]) == [HOT]


async def test_list_tells_of_rules_that_workers_refuse(rules: Rules) -> None:
    await rules.fetch("INSERT INTO user_configs (user_id, rules) VALUES ('eve', '[{}]')")
    done = await rules.run("list")
    assert done.code == 1
    assert "REFUSED: rules[0].key: missing" in done.out
    await rules.fetch("UPDATE user_configs SET accepted = '[]'")  # as a worker does
    assert "REFUSED, the earlier rules stay in effect: rules[0].key: missing" in (await rules.run("list")).out


async def test_backtest(rules: Rules) -> None:
    hot_twice: list[Stored] = [(0, 20.0, {}), (600, 90.0, {}), (660, 70.0, {}), (700, 95.0, {}), (7900, 20.0, {})]
    await rules.store("alice", "truck-1", hot_twice)
    await rules.store("alice", "truck-2", [(0, None, {"door": "open"}), (60, None, {"door": "shut"})])
    await rules.store("alice", "van-1", [(0, 99.0, {"door": "open"})])
    await rules.store("bob", "truck-1", [(0, 99.0, {"door": "open"})])
    await rules.store("alice", "truck-3", [(-86400, 99.0, {})])
    await rules.run("set", "alice", rules.file([HOT, DOOR]))

    found = (await rules.run("backtest", "--user", "alice", "--since", "6h", "--json")).json
    assert (found["readings"], found["devices"], found["rules"]) == (8, 3, ["temperature", "door"])
    figures = {(one["rule_id"], one["device_id"]): one for one in found["figures"]}
    assert {key: (one["alerts"], one["open"]) for key, one in figures.items()} == {
        ("temperature", "truck-1"): (2, 0), ("temperature", "van-1"): (1, 1),
        ("door", "truck-2"): (1, 0), ("door", "van-1"): (1, 1)}  # fmt: skip
    one = figures["temperature", "truck-1"]
    assert (one["flaps"], one["seconds"], one["longest"]) == (1, 7260, 7200)
    assert {name: sum(counts) for name, counts in found["over_time"].items()} == {"temperature": 3, "door": 2}
    assert {len(counts) for counts in found["over_time"].values()} == {BINS}

    only = (await rules.run("backtest", "--user", "alice", "--device", "truck-[2-9]", "--json")).json
    assert [(one["rule_id"], one["device_id"]) for one in only["figures"]] == [
        ("temperature", "truck-3"), ("door", "truck-2")]  # fmt: skip
    other = [{**HOT, "id": "warm", "threshold": 18, "for_seconds": 3600}]
    tried = (await rules.run("backtest", "--user", "alice", "--rules", rules.file(other, "other.json"), "--json")).json
    assert [(one["rule_id"], one["device_id"], one["alerts"]) for one in tried["figures"]] == [("warm", "truck-1", 1)]

    shown = await rules.run("backtest", "--user", "alice", "--since", "6h")
    assert shown.code == 0
    assert shown.error == ""  # no progress bar where nobody looks
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert "temperature 2 3 1 1 5 h 7 h 1 min" in lines
    assert "temperature truck-1 2 1 0 2 h 2 h 1 min" in lines
    assert "█" in shown.out
    assert lines[-1].startswith("8 readings of 3 devices since")


async def test_a_backtest_of_what_is_in_force_has_the_rules_of_all_users(rules: Rules) -> None:
    await rules.store("alice", "truck-1", [(0, 90.0, {"door": "open"})])
    assert (await rules.run("set", "*", rules.file([{**HOT, "threshold": 85}, DOOR]))).error == ""
    alone = (await rules.run("backtest", "--user", "alice", "--json")).json
    assert {one["rule_id"]: one["alerts"] for one in alone["figures"]} == {"temperature": 1, "door": 1}
    own = [{**HOT, "threshold": 95}, {"id": "door", "enabled": False}]
    assert (await rules.run("set", "alice", rules.file(own))).error == ""
    assert json.loads((await rules.run("list", "--user", "alice", "--in-force")).out) == own[:1]
    assert [one["threshold"] for one in json.loads((await rules.run("list", "--user", "bob", "--in-force")).out)] == [
        85, "open",
    ]  # fmt: skip
    assert (await rules.run("list", "--in-force")).code == 2
    both = (await rules.run("backtest", "--user", "alice", "--json")).json
    assert (both["rules"], both["figures"]) == (["temperature"], [])


async def test_the_commands_of_the_page(rules: Rules) -> None:
    page = (DOCS / "rules.md").read_text()
    commands = re.findall(
        r"^    iot-stream rules ((?!test ).*)$|`iot-stream rules (list --user .*)`", page, re.MULTILINE
    )
    await rules.store("alice", "truck-1", [(0, 90.0, {})])
    rules.file([HOT])
    for command in sorted((one or other for one, other in commands), key=lambda text: not text.startswith("set")):
        done = await rules.run(*shlex.split(command))
        assert (done.code, done.error) == (0, ""), command
        assert done.out
    assert len(commands) == 4


async def test_a_backtest_writes_nothing(rules: Rules) -> None:
    """A database that takes no writes does not mind."""
    await rules.store("alice", "truck-1", [(0, 90.0, {})])
    await rules.run("set", "alice", rules.file([HOT]))
    (row,) = await rules.fetch("SELECT current_database() AS name")
    await rules.fetch(f"ALTER DATABASE {row['name']} SET default_transaction_read_only = on")
    found = (await rules.run("backtest", "--user", "alice", "--json")).json
    assert [one["alerts"] for one in found["figures"]] == [1]
    refused = await rules.run("set", "alice", rules.file([]))
    assert refused.code == 1
    assert "25006" in refused.error


async def test_pages_follow_each_other_and_equal_what_a_file_gives(rules: Rules) -> None:
    """More than two pages of readings: the same alerts as from psql's export of them."""
    count = PAGE * 2 + 10
    values: list[Stored] = [
        (n * 1.5, float((n * 7919) % 100), {"door": "open" if n % 11 else "shut"}) for n in range(count)
    ]
    await rules.store("alice", "a", values)
    await rules.store("alice", "b", values[: PAGE // 2])
    file = rules.file([HOT, {**DOOR, "consecutive": 3}])
    found = (await rules.run("backtest", "--user", "alice", "--rules", file, "--json")).json
    assert (found["readings"], found["devices"]) == (count + PAGE // 2, 2)
    connection = await asyncpg.connect(rules.database)
    try:
        query = "SELECT * FROM raw_telemetry ORDER BY time, device_id"
        await connection.copy_from_query(query, output=rules.directory / "export.csv", format="csv", header=True)
    finally:
        await connection.close()
    tested = (await rules.run("test", file, "--readings", "export.csv", "--json")).json
    assert (tested["readings"], tested["refused"]) == (found["readings"], [])
    by_file: dict[tuple[str, str], int] = {}
    for alert in tested["alerts"]:
        key = alert["rule_id"], alert["device_id"]
        by_file[key] = by_file.get(key, 0) + 1
    assert {(one["rule_id"], one["device_id"]): one["alerts"] for one in found["figures"]} == by_file
    assert min(by_file.values()) > 100


async def test_the_server_reads_along_the_key_and_sorts_nothing(rules: Rules) -> None:
    await rules.fetch(
        "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id) "
        "SELECT $1::timestamptz + n * interval '1 s', 'u' || n % 5, 'd' || n % 50, n FROM generate_series(1, 50000) n",
        rules.began,
    )
    await rules.fetch("ANALYZE raw_telemetry")
    connection = await asyncpg.connect(rules.database)
    try:
        async with connection.transaction():
            await connection.execute(ALONG_THE_KEY)
            rows = await connection.fetch(f"EXPLAIN {query(DEFAULT)}", rules.began, rules.began + LENGTH, "u1", "")
    finally:
        await connection.close()
    plan = "\n".join(row[0] for row in rows)
    assert "Sort" not in plan, plan
    assert "raw_telemetry_pkey" in plan


async def test_what_cannot_be_done_is_said_in_a_line(rules: Rules) -> None:
    none = await rules.run("backtest", "--user", "alice")
    assert (none.code, none.error) == (
        1, "iot-stream: user alice has no rules in user_configs; name a file with --rules\n")  # fmt: skip
    wrong = await rules.run("backtest", "--user", "alice", "--since", "soon")
    assert "'soon' is not a duration" in wrong.error
    rules.database = f"postgresql://iot@127.0.0.1:{free_port()}/iot"
    away = await rules.run("list")
    assert away.code == 1
    assert "is IOT_DATABASE_URL right" in away.error
    assert "Traceback" not in none.error + wrong.error + away.error
