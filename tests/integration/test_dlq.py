"""`iot-stream dlq` on a real Kafka: what it lists, shows, writes, puts back, sets aside and deletes."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.core.model.records import Reason
from tests.integration.dlq_rig import Rig, numbered, numbers
from tests.servers import KafkaServer
from tests.unit.deadletters.letters import Held, held, plain
from tools.command import ROOT

pytestmark = pytest.mark.integration


@pytest.fixture
async def rig(kafka: KafkaServer, unique: str, tmp_path: Path) -> Rig:
    made = Rig(kafka.bootstrap, unique, {"audit_file": tmp_path / "audit.jsonl"})
    await made.prepare()
    return made


def audit(rig: Rig) -> list[dict[str, Any]]:
    path = Path(str(rig.more["audit_file"]))
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_letters_are_listed_and_shown(rig: Rig) -> None:
    noise = Held(b"\x1b[2J no envelope", key=b"k")
    await rig.write([held(b"\x00\xff{", device="d2", reason=Reason.BAD_ENCODING), *numbered(3), plain(b"[]"), noise])
    found = (await rig.dlq("ls", "--json")).json
    assert (found["letters"], found["unreadable"], found["ages"]["1 minute"]) == (5, 1, 5)
    assert found["reasons"] == {"bad_json": 3, "bad_encoding": 1, "other": 1}
    one = (await rig.dlq("ls", "--reason", "bad_encoding", "--topic", "users/u1/*/d2/*", "--json")).json
    assert (one["letters"], one["devices"]) == (1, [{"user_id": "u1", "device_id": "d2", "letters": 1}])
    listed = await rig.dlq("ls")
    assert "bad_json              3  ####" in listed.out
    shown = await rig.dlq("show", "--reason", "bad_encoding")
    for words in ("|..{|", "from in-5@42", "x-original-offset=42", "origin users/u1/devices/d2/telemetry, refused 20"):
        assert words in shown.out, shown.out
    (place,) = [json.loads(line) for line in (await rig.dlq("show", "--reason", "other", "--json")).out.splitlines()]
    again = await rig.dlq("show", f"{rig.values['kafka_dlq_topic']}-{place['partition']}@{place['offset']}", "--json")
    assert json.loads(again.out) == place
    assert (place["payload"], place["error"]) == ([], "boom")
    none = await rig.dlq("show", "99:1")
    assert (none.code, none.error) == (1, "iot-stream: there is no such dead letter\n")


async def test_without_yes_nothing_is_done(rig: Rig) -> None:
    await rig.write(numbered(7, broken=2))
    told = await rig.dlq("replay", "--user", "u1")
    assert told.code == 0
    assert "7 would be put back; nothing is done yet: give --yes" in told.error
    assert "bad_json          7  ####" in told.out
    left = await rig.dlq("replay", "--set", "a=1", "--json")
    assert (left.json["replayed"], left.json["left_out"], left.json["chosen"]["letters"]) == (
        7,
        {"not a JSON object": 2},
        9,
    )
    assert await rig.read() == []
    assert audit(rig) == []


async def test_exactly_the_chosen_letters_are_put_back_once(rig: Rig) -> None:
    await rig.write(numbered(500, broken=20))
    words = ("replay", "--user", "u1", "--device", "d1*", "--set", "battery=1.50", "--yes", "--json")
    done = (await rig.dlq(*words)).json
    wanted = [number for number in range(500) if f"d{number % 20}".startswith("d1")]
    assert (done["replayed"], done["left"], done["left_out"]) == (len(wanted), 0, {})
    found = await rig.read()
    assert sorted(numbers(found)) == wanted
    for record in found:
        headers = dict(record.headers)
        assert headers["replay_count"] == b"1"
        assert headers["ingest_ms"] == b"1795230000000"
        assert "reason" not in headers
        assert json.loads(record.value)["battery"] == 1.5
        assert b"1.50" in record.value
    by_device: dict[bytes, list[int]] = {}
    for record, number in zip(found, numbers(found), strict=True):
        by_device.setdefault(record.key, []).append(number)
    assert all(sequence == sorted(sequence) for sequence in by_device.values()), "in the order of each device"

    assert (await rig.dlq(*words)).json["replayed"] == 0, "the same command takes no letter twice"
    await rig.write(numbered(2))
    assert (await rig.dlq(*words)).json["replayed"] == 1, "but what came since"
    assert (await rig.dlq(*words, "--again")).json["replayed"] == len(wanted) + 1
    begun, ended = audit(rig)[:2]
    assert (begun["phase"], begun["command"], begun["what"]["selection"]) == (
        "begin", "dlq replay", {"user": "u1", "devices": ["d1*"]},
    )  # fmt: skip
    assert (ended["phase"], ended["outcome"], ended["counts"]["replayed"]) == ("end", "done", len(wanted))


async def test_letters_that_no_replay_cures_are_set_aside(rig: Rig) -> None:
    await rig.write([held(more=[("replay_count", b"%d" % count)]) for count in (0, 2, 3, 7)])
    done = (await rig.dlq("replay", "--max-replays", "3", "--yes", "--json")).json
    assert (done["replayed"], done["quarantined"]) == (2, 2)
    assert sorted(dict(record.headers)["replay_count"] for record in await rig.read()) == [b"1", b"3"]
    aside = await rig.read("kafka_quarantine_topic")
    assert sorted(dict(record.headers)["quarantined"] for record in aside) == [
        b"replayed 3 times, 3 at most", b"replayed 7 times, 3 at most",
    ]  # fmt: skip
    assert (await rig.dlq("ls", "--quarantine", "--json")).json["replays"] == {"3": 1, "7": 1}
    assert (await rig.dlq("replay", "--quarantine", "--yes", "--json")).json["replayed"] == 2


async def test_what_kafka_refuses_holds_up_no_other(rig: Rig) -> None:
    """Random bytes do not get smaller by compression."""
    large = held(bytes(range(256)) * 4200)
    noise = held(os.urandom(1_100_000))
    await rig.write([held(b"{}"), large, held(b"{}"), noise, held(b"{}")])
    done = await rig.dlq("replay", "--yes", "--json")
    assert done.code == 1
    assert (json.loads(done.out)["replayed"], json.loads(done.out)["refused"]) == (4, 1)
    assert len(await rig.read()) == 4


async def test_letters_go_out_and_come_in_whole(rig: Rig, tmp_path: Path) -> None:
    letters = [*numbered(30), held(None), held(b"\xff"), plain(b"x"), Held(b"no letter", key=b"k")]
    await rig.write(letters)
    file = tmp_path / "letters.jsonl"
    done = await rig.dlq("export", "--output", file)
    assert (done.code, done.error) == (0, "34 dead letters written\n")
    refused = await rig.dlq("import", file, "--yes")
    assert refused.code == 1
    assert "it is no dead letter" in refused.error
    done = await rig.dlq("export", "--user", "u1")
    file.write_text(done.out)
    assert (await rig.dlq("import", file, "--json")).json == {"letters": 33, "written": False}
    assert (await rig.dlq("import", file, "--yes", "--json")).json == {"letters": 33, "written": True}
    found = await rig.read("kafka_dlq_topic")
    assert len(found) == 67
    twice = [(record.key, record.value, tuple(record.headers)) for record in found if record.value != b"no letter"]
    assert all(twice.count(one) == 2 for one in twice)
    ends = [(line["command"], line["outcome"], line["counts"]) for line in audit(rig) if line["phase"] == "end"]
    assert ends == [
        ("dlq export", "done", {"letters": 34}), ("dlq export", "done", {"letters": 33}),
        ("dlq import", "done", {"letters": 33}),
    ]  # fmt: skip


async def test_letters_are_deleted_from_the_oldest_on(rig: Rig) -> None:
    await rig.write(numbered(100))
    told = await rig.dlq("purge", "--all")
    assert (told.code, "100 offsets" in told.out, "nothing is deleted" in told.error) == (0, True, True)
    assert (await rig.dlq("purge", "--until", "1h", "--yes", "--json")).json == {"offsets": 0, "deleted": False}
    held_by = {record.partition for record in await rig.read("kafka_dlq_topic")}
    first = min(held_by)
    assert (await rig.dlq("purge", "--before", f"{first}:3", "--yes", "--json")).json == {"offsets": 3, "deleted": True}
    assert (await rig.dlq("ls", "--json")).json["letters"] == 97
    assert (await rig.dlq("purge", "--all", "--yes", "--json")).json == {"offsets": 97, "deleted": True}
    assert (await rig.dlq("ls")).out == "no dead letters\n"
    assert [line["counts"] for line in audit(rig) if line["phase"] == "end"] == [{"offsets": 3}, {"offsets": 97}]


async def test_where_no_audit_line_can_be_written_nothing_is_done(rig: Rig, tmp_path: Path) -> None:
    await rig.write(numbered(3))
    rig.more["audit_file"] = tmp_path / "no" / "such" / "directory"
    done = await rig.dlq("replay", "--yes")
    assert (done.code, "IOT_AUDIT_FILE" in done.error, await rig.read()) == (1, True, [])
    assert (await rig.dlq("purge", "--all", "--yes")).code == 1
    assert len(await rig.read("kafka_dlq_topic")) == 3


async def test_the_audit_line_on_a_topic(rig: Rig) -> None:
    rig.more = {"audit_topic": rig.values["kafka_topic"]}
    await rig.write(numbered(3))
    assert (await rig.dlq("purge", "--all", "--yes")).code == 0
    lines = [json.loads(record.value) for record in await rig.read()]
    assert [(line["phase"], line.get("outcome")) for line in lines] == [("begin", None), ("end", "done")]
    assert all(line["who"] and line["host"] for line in lines)
    rig.more |= {"operator": "ann@example.com"}
    assert (await rig.dlq("purge", "--all", "--yes")).code == 0, "nothing is left, so nothing is noted"
    await rig.write(numbered(3))
    assert (await rig.dlq("replay", "--yes")).code == 0
    lines = [json.loads(record.value) for record in await rig.read() if b"phase" in record.value]
    assert [line["who"] for line in lines if line["command"] == "dlq replay"] == ["ann@example.com"] * 2


def on_a_terminal(rig: Rig, answer: str) -> str:
    """What `dlq purge --all` prints where a person answers."""
    environment = {**os.environ, **{f"IOT_{name.upper()}": str(value) for name, value in rig.values.items()}}
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "app", "dlq", "purge", "--all"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT,
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        while b"for good: " not in said:
            said += os.read(terminal, 1000)
        os.write(terminal, answer.encode() + b"\n")
        with suppress(OSError):  # how a terminal says that nobody is there any more
            while more := os.read(terminal, 1000):
                said += more
    os.close(terminal)
    assert process.returncode == 0
    return said.decode()


async def test_on_a_terminal_purge_asks_for_the_number_first(rig: Rig) -> None:
    await rig.write(numbered(7))
    for answer, words in (("y", "7 offsets of .* would be deleted"), ("", "would be deleted"), ("7", "7 .* deleted")):
        assert (await rig.dlq("ls", "--json")).json["letters"] == 7
        said = await asyncio.to_thread(on_a_terminal, rig, answer)
        assert f"Type 7 to delete them from {rig.values['kafka_dlq_topic']} for good" in said
        assert re.search(words, said), said
    assert (await rig.dlq("ls", "--json")).json["letters"] == 0


async def test_one_line_where_kafka_is_away_or_has_no_such_topic(rig: Rig) -> None:
    rig.more["kafka_dlq_topic"] = "no-such-topic"
    for words in (["ls"], ["replay", "--yes"], ["show"], ["purge", "--all"], ["export"]):
        done = await rig.dlq(*words)
        assert (done.code, done.error.count("\n"), "there is no topic no-such-topic" in done.error) == (1, 1, True)
    rig.more["kafka_broker"] = "127.0.0.1:1"
    away = await asyncio.gather(*(rig.dlq(*words) for words in (["ls"], ["replay", "--yes"], ["purge", "--all"])))
    assert [(done.code, done.error.count("\n"), "Kafka" in done.error) for done in away] == [(1, 1, True)] * 3
