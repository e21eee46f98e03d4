"""`iot-stream load` on the whole path: bridge, Kafka, worker, database."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.loadtest.check import RunCheck
from app.loadtest.device import LoadDevice
from app.loadtest.plan import LoadPlan
from app.loadtest.schedule import Profile, Schedule
from app.loadtest.tracers import Tracer
from app.loadtest.traffic import Traffic
from app.runtime.tracing.tracing import NO_TRACING
from tests.servers import KafkaServer, MqttServer
from tests.workers import ROOT, Site

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

USERS, OF_EACH, RATE, SECONDS = 2, 2, 400, 3
TOTAL = Schedule(Profile.CHAOS, RATE, SECONDS).total


async def test_everything_is_there_until_a_row_is_deleted(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"rules_poll": 0.2})
    await site.prepare([])
    with site.program("worker") as worker, site.program("bridge") as bridge:
        for program in (worker, bridge):
            await program.ready()
        ledger = run_of(site, tmp_path)
    assert ledger["verdict"] == "complete"
    found = ledger["findings"]
    assert ledger["sent"] == ledger["acked"] == found["rows"] == found["stored"] == TOTAL
    assert found["alerts_expected"] == found["alerts_found"] >= 12
    assert ledger["to_row"]["count"] > 50
    assert "Everything that was sent is there" in (tmp_path / "load.html").read_text()
    begin, end = map(json.loads, (tmp_path / "audit").read_text().splitlines())
    assert (begin["command"], begin["what"]["rate"], begin["what"]["profile"]) == ("load", RATE, "chaos")
    assert (end["outcome"], end["counts"]) == ("complete", {"sent": TOTAL, "acked": TOTAL, "users": USERS})
    assert await site.fetch("SELECT FROM user_configs WHERE user_id LIKE 'load-%'") == []
    await each_loss_is_found(site)


def example() -> list[str]:
    """The worked example of docs/load.md."""
    page = (ROOT / "docs" / "load.md").read_text().partition("## A worked example")[2]
    (command,) = re.findall(r"^    (iot-stream load .*--json load.json)$", page, re.M)
    return shlex.split(command)


def run_of(site: Site, directory: Path) -> dict[str, Any]:
    """What the example says, run in `directory`."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "IOT_MQTT_HOST": site.mqtt.host,
        "IOT_MQTT_PORT": str(site.mqtt.port),
        "IOT_MQTT_USERNAME": site.mqtt.username,
        "IOT_MQTT_PASSWORD": site.mqtt.password,
        "IOT_DATABASE_URL": site.database,
        "IOT_RULES_POLL": "0.2",
        "IOT_AUDIT_FILE": str(directory / "audit"),
    }
    command = [sys.executable, "-m", "app", *example()[1:]]
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^stored +{TOTAL:,}  rows {TOTAL:,}$", done.stdout, re.M), done.stdout
    found: dict[str, Any] = json.loads((directory / "load.json").read_text())
    return found


async def each_loss_is_found(site: Site) -> None:
    """The rows of the run, one of them harmed after the other."""
    ((name, start),) = await site.fetch(
        "SELECT min(user_id), min((extra_data->>'load_due_us')::bigint) FROM raw_telemetry"
    )
    plan = LoadPlan(name.split("-")[1], USERS, OF_EACH, Schedule(Profile.CHAOS, RATE, SECONDS), start_us=start)
    connection = await asyncpg.connect(site.database)
    try:
        assert (await looked(plan, connection)).faults == {}
        row = "user_id = $1 AND device_id = $2 AND sequence_id = 17"
        of = f"{name}/{plan.name(2)} 17 of "
        await connection.execute(f"DELETE FROM raw_telemetry WHERE {row}", plan.user(2), plan.name(2))
        missing = (await looked(plan, connection)).missing
        assert (missing.count, missing.examples[0].startswith(of.replace(name, plan.user(2)))) == (1, True)
        assert (await looked(plan, connection, {2: [17]})).faults == {}, "its PUBACK is not there: it may be lost"
        for change, fault in (
            ("temperature = temperature + 0.1", "altered"),
            ("extra_data = extra_data || '{\"load_sum\": 1}'", "altered"),
            ("time = time + interval '1 microsecond'", "altered"),
            ("sequence_id = 16", "doubled"),
            ("sequence_id = 100000", "never sent"),
        ):
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(
                f"UPDATE raw_telemetry SET {change} WHERE {row.replace('17', '18')}", plan.user(2), plan.name(2)
            )
            assert (await looked(plan, connection)).faults[fault].count == 1, change
            await transaction.rollback()
        await connection.execute("DELETE FROM alert_history WHERE ctid = (SELECT min(ctid) FROM alert_history)")
        await connection.execute(
            "UPDATE alert_history SET event_time = now() WHERE ctid = (SELECT max(ctid) FROM alert_history)"
        )
        found = await looked(plan, connection)
        assert (found.alerts_missing.count, found.alerts_unexpected.count) == (2, 1)
    finally:
        await connection.close()


async def looked(plan: LoadPlan, connection: Any, unanswered: dict[int, list[int]] | None = None) -> Any:
    """What a check finds when all of the plan was sent."""
    tracer = Tracer(plan, NO_TRACING, 0.0)
    devices = [LoadDevice(plan, number, Traffic(), tracer, lambda: 0.0) for number in range(plan.devices)]
    for device in devices:
        device.sent = plan.readings_of(device.number, plan.schedule.total)
        device.refused = (unanswered or {}).get(device.number, [])
    return await RunCheck(plan, devices).look(connection)
