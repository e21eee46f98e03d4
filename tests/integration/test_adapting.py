"""Schemas of a developer's own, from the struct to the rows of a real worker: examples/ and docs/adapting.md."""

import importlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, until
from tools.command import Done, iot_stream

pytestmark = pytest.mark.integration

# Of each example: its rows in the order of its readings, own columns then extra_data, and the rules that fire.
WANTED: dict[str, tuple[list[tuple[Any, ...]], set[str]]] = {
    "examples.logistics:Package": (
        [
            (2.4, "HAM-2", 53.55, 9.99, 3, False, {"carrier": "north"}),
            (2.4, None, 53.56, 10.0, 80, False, {}),
            (2.4, "BRE-1", None, None, 2, True, {"seal": {"intact": False}}),
        ],
        {"shock_g", "opened"},
    ),
    "examples.market:Tick": (
        [
            (Decimal("69999.100000000000000001"), 12, "buy", {}),
            (Decimal("70000.25"), 9007199254740993, "sell", {"conditions": ["odd lot"]}),
            (Decimal(69000), 0, "halt", {}),
        ],
        {"price", "side"},
    ),
    "examples.patients:Vitals": (
        [
            (72, 98, 121, 79, 36.8, False, {}),
            (75, 84, None, None, 36.9, None, {"firmware": "4.1"}),
            (131, None, None, None, 39.2, True, {}),
        ],
        {"spo2", "fever"},
    ),
}
BAD = {"examples.logistics:Package": {"hub": "HAM-2"}, "examples.market:Tick": {"price": "much", "size": 1},
       "examples.patients:Vitals": {"hr": 40_000}}  # fmt: skip


@pytest.fixture(params=WANTED)
async def adapted(
    request: pytest.FixtureRequest,
    kafka: KafkaServer,
    database: str,
    mosquitto: MqttServer,
    unique: str,
    tmp_path: Path,
) -> Site:
    """Topics and the example's rules, in a database as init.sql makes it."""
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"schema_struct": request.param})
    await site.prepare(importlib.import_module(request.param.partition(":")[0]).RULES)
    return site


async def command(site: Site, *words: str) -> Done:
    return await iot_stream(site.values, "schema", *words)


async def test_an_example_from_its_struct_to_its_rows(adapted: Site) -> None:
    name = str(adapted.more["schema_struct"])
    example = importlib.import_module(name.partition(":")[0])
    columns = [field for field in getattr(example, name.partition(":")[2]).__struct_fields__]
    with adapted.program("worker") as worker:
        await until(lambda: reported(worker), 40, worker.tail)  # the worker waits, and names each column
        assert {event["column"] for event in worker.events("schema_differs")} == set(columns)
        assert (await command(adapted, "check")).code == 1
        lacking = json.loads((await command(adapted, "check", "--json")).out)["differences"]
        assert [one["column"] for one in lacking] == columns
        for statement in (await command(adapted, "sql", "--from-database")).out.splitlines():
            await adapted.fetch(statement)
        assert (await command(adapted, "check")).code == 0
        await worker.ready()
        await send(adapted, [*example.READINGS, BAD[name]])
        await adapted.settled_input()
        assert worker.stop() < 10
    wanted, fired = WANTED[name]
    listed = ", ".join(f'"{column}"' for column in [*columns, "extra_data"])
    rows = await adapted.fetch(f"SELECT {listed} FROM raw_telemetry ORDER BY sequence_id")
    assert [(*row[:-1], json.loads(row[-1])) for row in map(tuple, rows)] == wanted
    alerts = await adapted.fetch("SELECT DISTINCT rule_id FROM alert_history WHERE status = 'FIRING'")
    assert {row[0] for row in alerts} == fired


async def reported(worker: Any) -> bool:
    """Whether the worker has said what differs."""
    return bool(worker.events("schema_differs"))


async def send(site: Site, readings: list[Any]) -> None:
    """As the bridge would, a second apart."""
    began = datetime.now(UTC) - timedelta(minutes=1)
    headers = [("mqtt_topic", f"users/{site.unique}/devices/d1/telemetry".encode()), ("kind", b"telemetry")]
    async with AIOKafkaProducer(bootstrap_servers=site.kafka) as producer:
        for number, reading in enumerate(readings):
            time = (began + timedelta(seconds=number)).isoformat()
            payload = json.dumps({"time": time, "sequence_id": number, **reading}).encode()
            key = f"{site.unique}/d1".encode()
            await producer.send_and_wait(site.settings.kafka_topic, payload, key=key, headers=headers)
