"""docs/dlq.md: its worked example, run as it stands there, and dead letters put back to a real worker and bridge."""

import asyncio
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from app.core.model.records import Reason
from tests.integration.dlq_rig import PARTITIONS, Rig
from tests.servers import KafkaServer, MqttServer
from tests.unit.deadletters.letters import held, plain
from tests.workers import Site
from tools.command import ROOT, Done

pytestmark = pytest.mark.integration

PAGE = (ROOT / "docs" / "dlq.md").read_text()
EXAMPLE = PAGE.partition("## A worked example")[2].partition("\n## ")[0]


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    more = {"kafka_partitions": PARTITIONS, "dead_letters_in_a_row": 5}
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await made.prepare([])
    return made


async def run(site: Site, code: str) -> Done:
    """A block of the page in a shell, where `iot-stream` is this one."""
    environment = {f"IOT_{name.upper()}": str(value) for name, value in site.values.items()}
    shell = f'iot-stream() {{ "{sys.executable}" -m app "$@"; }}\nset -e\n{code}'
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", shell, cwd=site.directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    out, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), error.decode())


async def send(site: Site, payloads: list[dict[str, object]]) -> None:
    headers = [("mqtt_topic", b"users/alice/devices/truck-1/telemetry"), ("kind", b"telemetry")]
    async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
        for payload in payloads:
            value = json.dumps({"time": datetime.now(UTC).isoformat(), **payload}).encode()
            await producer.send_and_wait(site.settings.kafka_topic, value, key=b"alice/truck-1", headers=headers)


async def test_the_worked_example(site: Site) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", EXAMPLE, re.M | re.S)
    looked, tried, acted = blocks
    said = re.findall(r"^ {4}(\S.*)$", EXAMPLE, re.M)
    with site.program("worker") as worker:
        await worker.ready()
        new = {"firmware": "2.1", "temperature": 20.10}
        await send(site, [{**new, "seq": 1}, {**new, "seq": 2}, {"firmware": "1.9", "seq": 3}])
        await site.settled_input()

        done = await run(site, looked)
        assert (done.code, done.error) == (0, "")
        for line in (*said[:2], "validate: missing_field", '"seq": 1'):
            assert line in done.out, done.out
        done = await run(site, tried)
        assert (done.code, said[2] in done.out) == (0, True), done
        assert "2 would be put back; nothing is done yet: give --yes" in done.error
        assert await site.fetch("SELECT 1 FROM raw_telemetry") == []
        done = await run(site, acted)
        assert (done.code, said[3] in done.out) == (0, True), done
        await site.settled_input()
        rows = await site.fetch("SELECT sequence_id, extra_data->>'firmware' AS f FROM raw_telemetry ORDER BY 1")
    assert [tuple(row) for row in rows] == [(1, "2.1"), (2, "2.1")]


async def test_an_old_reading_that_is_put_back_is_a_row_and_no_alert_and_a_new_one_is_both(site: Site) -> None:
    """By the rules for late data: the device's state is newer than the first letter, and older than the second."""
    rules = json.dumps([{"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}])
    await site.fetch("INSERT INTO user_configs (user_id, rules) VALUES ('alice', $1)", rules)
    patch = site.directory / "rename.json"
    patch.write_bytes(b'[{"op": "move", "from": "/seq", "path": "/sequence_id"}]')
    rig = Rig(site.kafka, site.unique, site.values)
    with site.program("worker") as worker:
        await worker.ready()
        now = datetime.now(UTC)
        old, new = now - timedelta(minutes=10), now + timedelta(seconds=5)
        await send(site, [
            {"seq": 1, "temperature": 95, "time": old.isoformat()}, {"sequence_id": 2, "temperature": 20},
            {"seq": 3, "temperature": 96, "time": new.isoformat()},
        ])  # fmt: skip
        await site.settled_input()
        done = (await rig.dlq("replay", "--reason", "missing_field", "--fix", patch, "--yes", "--json")).json
        assert (done["replayed"], done["left_out"]) == (2, {})
        await site.settled_input()
    rows = await site.fetch("SELECT sequence_id FROM raw_telemetry ORDER BY 1")
    assert [row["sequence_id"] for row in rows] == [1, 2, 3]
    alerts = await rig.read("kafka_alerts_topic")
    assert [(json.loads(one.value)["status"], json.loads(one.value)["value"]) for one in alerts] == [("FIRING", 96)]


async def test_what_is_put_back_and_refused_again_counts_its_replays_and_stops_no_worker(site: Site) -> None:
    rig = Rig(site.kafka, site.unique, site.values)
    await rig.write([held(b"{", user=site.unique, device=f"d{number}") for number in range(30)])
    with site.program("worker") as worker:
        await worker.ready()
        for counts in ({"0": 30, "1": 30}, {"0": 30, "1": 30, "2": 30}):
            assert (await rig.dlq("replay", "--yes", "--json")).json["replayed"] == 30
            await site.settled_input()
            listed = (await rig.dlq("ls", "--json")).json
            assert listed["replays"] == counts
            assert listed["reasons"] == {Reason.BAD_JSON: sum(counts.values())}
        assert worker.alive


def test_the_page_names_every_command() -> None:
    assert set(re.findall(r"^ {4}iot-stream dlq (\w+)", PAGE, re.M)) == {
        "ls", "show", "replay", "export", "import", "purge",
    }  # fmt: skip


async def test_over_mqtt_letters_come_in_by_the_bridge(site: Site) -> None:
    rig = Rig(site.kafka, site.unique, site.values)
    letters = [held(b"%d" % number, user=site.unique) for number in range(50)]
    await rig.write([*letters, plain(b"{}", original_topic="in")])
    with site.program("bridge") as bridge:
        await bridge.ready()
        done = await rig.dlq("replay", "--to", "mqtt", "--yes", "--json")
        found = json.loads(done.out)
        assert (done.code, found["replayed"], found["refused"]) == (1, 50, 1), done.error
        assert (await rig.dlq("replay", "--to", "mqtt", "--yes")).code == 0, "the same command takes no letter twice"
        await rig.arrived(50)
    records = await rig.read()
    assert [record.value for record in records] == [b"%d" % number for number in range(50)]
    assert {dict(record.headers)["mqtt_topic"] for record in records} == {
        f"users/{site.unique}/devices/d1/telemetry".encode()
    }


async def test_over_mqtt_replays_are_counted_too_until_the_quarantine(site: Site) -> None:
    rig = Rig(site.kafka, site.unique, site.values)
    await rig.write([held(b"{", user=site.unique, device=f"d{number}") for number in range(20)])
    words = ("replay", "--to", "mqtt", "--max-replays", "2", "--yes", "--json")
    with site.program("bridge") as bridge, site.program("worker") as worker:
        await bridge.ready()
        await worker.ready()
        for count in (1, 2):
            assert (await rig.dlq(*words)).json["replayed"] == 20
            await rig.arrived(20 * count)
            await site.settled_input()
            listed = (await rig.dlq("ls", "--json")).json
            assert listed["replays"] == {str(number): 20 for number in range(count + 1)}
        aside = (await rig.dlq(*words)).json
        assert (aside["replayed"], aside["quarantined"]) == (0, 20)
        assert worker.alive, "what was put back counts for no limit, by this way neither"
    assert (await rig.dlq("ls", "--quarantine", "--json")).json["replays"] == {"2": 20}


async def test_an_mqtt_broker_that_refuses_or_is_away_is_one_line(site: Site) -> None:
    rig = Rig(site.kafka, site.unique, {**site.values, "mqtt_port": 1})
    await rig.write([held(b"{}")])
    away = await rig.dlq("replay", "--to", "mqtt", "--yes", "--timeout", "1")
    assert (away.code, away.error.count("\n"), "MQTT broker" in away.error) == (1, 1, True)
    rig.more = {**site.values, "mqtt_password": "wrong"}
    refused = await rig.dlq("replay", "--to", "mqtt", "--yes")
    assert (refused.code, "IOT_MQTT_USERNAME" in refused.error) == (1, True), refused.error
    rig.more = site.values
    assert (await rig.dlq("replay", "--to", "mqtt", "--yes", "--json")).json["replayed"] == 1
