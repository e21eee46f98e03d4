"""A real Prometheus asks real programs: every metric that is named is on a page, every query is answered."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.local.servers.common import free_port
from tests.deploy import compose, dashboards, programs
from tests.deploy.test_dashboards import QUERIES
from tests.integration.bridges import publisher
from tests.servers import KafkaServer, MqttServer
from tests.workers import STARTED, Running, Site, until
from tools.faults.ways.setup import PASSWORD, door, open_account
from tools.monitoring.files import RULES

pytestmark = pytest.mark.integration

RULE = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}]
OF_PROGRAMS = {
    name
    for expr in QUERIES.values()
    for name in dashboards.series_of(expr)
    if name.startswith(("iot_", "db_", "process_"))
}
# After a reading, an alert and a dead letter these have a value, each the head of what an operator sees.
ANSWERED = (
    "Messages in", "Rows stored", "Lag A", "Age when stored", "Dead letters, last hour", "Circuit breaker A",
    "Workers up", "Devices online A", "Books A", "What became of them", "Received less all outcomes",
    "Records by kind", "Age of an event", "Dead letters by reason", "Messages from MQTT A", "Alerts out A",
    "Records of the gateways A", "Requests of the gateways A", "From a submission to Kafka's ack A",
    "Records of the sinks", "Lag of the sinks A", "Circuits of the sinks A", "Books of the sinks A",
    "Series of the sinks A", "Memory A", "CPU A", "Open files", "Free on the volume", "variable job",
    "variable instance",
)  # fmt: skip


PROGRAMS = ("worker", "bridge", "notifier", "ingest", "sink-parquet")


@contextmanager
def prometheus(directory: Path, ports: dict[str, int]) -> Iterator[str]:
    """The address of a Prometheus that asks each port every second, as the job of that name, by the rules in deploy."""
    if not programs.has("prometheus"):
        pytest.skip("Prometheus cannot be had, so no query was asked of real programs: scripts/deploy-tools")
    scrapes = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in ports.items()]
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "scrape_configs": scrapes}
    (directory / "prometheus.yml").write_text(yaml.safe_dump({**config, "rule_files": [str(RULES)]}))
    port = free_port()
    command = [
        str(programs.path("prometheus")), f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data", f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


async def asked(address: str, path: str, **parameters: str) -> Any:
    """The data of an answer of its API; fails with its words."""
    async with aiohttp.ClientSession() as session, session.get(f"{address}/api/v1/{path}", params=parameters) as answer:
        if answer.content_type != "application/json":
            answer.raise_for_status()  # Prometheus only starts
        body = json.loads(await answer.text())
    assert body["status"] == "success", f"{parameters}: {body}"
    return body["data"]


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[dict[str, Running]]:
    """Worker, bridge, notifier, gateways and a sink that have stored readings, sent an alert and dead-lettered a
    record.
    """
    await site.prepare(RULE)
    await open_account(site)
    with ExitStack() as stack:
        made = {job: stack.enter_context(site.program(job)) for job in PROGRAMS}
        for program in made.values():
            await program.ready()
        await feed(site, 0)
        yield made


async def feed(site: Site, first: int) -> None:
    """Three readings, one of them too hot, one that is no reading; and one over HTTP."""
    topic = f"users/{site.unique}/devices/d1/telemetry"
    time = datetime.now(UTC).isoformat()
    readings = [
        json.dumps({"time": time, "sequence_id": first + n, "temperature": value}).encode()
        for n, value in enumerate((20.5, 91.5, 21.5))
    ]
    async with publisher(site.mqtt, f"device-{site.unique}") as client:
        await client.publish([(topic, payload) for payload in (*readings, b"{")])
    url = f"http://127.0.0.1:{site.settings.http_port}/v1/users/{site.unique}/devices/d2/telemetry"
    authorization = aiohttp.encode_basic_auth(site.unique, PASSWORD)
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, data=readings[0]) as answer:
        assert answer.status == 200, await answer.text()
    await site.settled()


def port_of(program: Running) -> int:
    """Where it serves /metrics."""
    return int(next(found for name in STARTED if (found := program.events(name)))[-1]["metrics_port"])


async def test_every_query_is_answered_by_real_programs(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path, server_dir: Path
) -> None:
    more = {"offline_after": 60, "parquet_dir": str(tmp_path / "lake"), **door(unique, server_dir).settings}
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    async with running(site) as made:
        await pages_have_every_metric(made)
        with prometheus(tmp_path, {job: port_of(program) for job, program in made.items()}) as address:

            async def up() -> bool:
                try:
                    return len((await asked(address, "query", query="up == 1"))["result"]) == len(made)
                except aiohttp.ClientError:
                    return False

            await until(up, 60, (tmp_path / "prometheus.log").read_text)
            for round_ in range(1, 6):
                await feed(site, 10 * round_)
                await asyncio.sleep(1.2)
            await every_query_is_answered(address)
            await every_rule_is_well(address)


async def pages_have_every_metric(made: dict[str, Running]) -> None:
    """What the files name, with the labels that the modules say, read from the pages themselves."""
    there: dict[str, set[str]] = {}
    for program in made.values():
        _, text = await program.get("/metrics")
        for family in text_string_to_metric_families(text):
            name = family.name + ("_total" if family.type == "counter" else "")
            there.setdefault(name, set()).update(*(sample.labels for sample in family.samples))
    bare = {re.sub(r"_(bucket|sum|count)$", "", name): name for name in OF_PROGRAMS}
    assert sorted(set(bare) - set(there)) == []
    declared = compose.exposed()
    for name, series in bare.items():
        if series in declared and there[name]:
            assert there[name] - {"le"} <= declared[series] | set(), name


async def every_query_is_answered(address: str) -> None:
    empty = []
    for where, expr in QUERIES.items():
        found = (await asked(address, "query", query=expr))["result"]
        empty += [where] if not found else []
    assert [where for where in empty if any(one in where for one in ANSWERED)] == []
    (difference,) = {row["value"][1] for row in (await asked(address, "query", query=QUERIES[BOOKS]))["result"]}
    assert difference == "0"


BOOKS = "operations: Books A"


async def every_rule_is_well(address: str) -> None:
    """All rules are evaluated, recording rules too; and no alert of the platform fires on a path that is well."""
    groups, active = (await asked(address, "rules"))["groups"], (await asked(address, "alerts"))["alerts"]
    found = [rule for group in groups for rule in group["rules"]]
    assert len(found) == len(dashboards.rules())
    assert [(rule["name"], rule["lastError"]) for rule in found if rule["health"] != "ok"] == []
    assert [alert["labels"] for alert in active if alert["state"] == "firing"] == []
