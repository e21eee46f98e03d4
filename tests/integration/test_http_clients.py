"""Programs of other projects, writing to a real gateway: curl, InfluxDB's client, Telegraf; what they sent are rows."""

import asyncio
import gzip
import json
import os
import subprocess
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from app.local.servers.common import free_port
from tests.servers import KafkaServer, MqttServer
from tests.telegraf import send_once, telegraf
from tests.workers import Site, until
from tools.command import iot_stream
from tools.faults.ways.setup import PASSWORD, open_account

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
ROWS = "SELECT time, temperature, extra_data FROM raw_telemetry WHERE user_id = $1 AND device_id = $2 ORDER BY time"


class Gateway(NamedTuple):
    """A gateway with a worker behind it, and a token of the user whose name is the test's."""

    site: Site
    url: str
    user: str
    token: str

    async def rows(self, device: str, count: int) -> list[Any]:
        """Time, temperature and extra_data of the rows of a device, once there are so many."""
        found: list[Any] = []

        async def there() -> bool:
            found[:] = await self.site.fetch(ROWS, self.user, device)
            return len(found) >= count

        await until(there, 30, lambda: f"{len(found)} rows of {device}")
        return found


@pytest.fixture
async def gateway(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> AsyncIterator[Gateway]:
    port = free_port()
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, {"http_port": port})
    await site.prepare([])
    await open_account(site)
    made = await iot_stream(site.values, "users", "token", "add", unique)
    assert made.code == 0, made.error
    with site.program("worker") as worker, site.program("http") as http:
        await worker.ready()
        await http.ready()
        yield Gateway(site, f"http://127.0.0.1:{port}", unique, made.out.strip())
        assert http.stop() < 10


def reading(number: int, **more: Any) -> dict[str, Any]:
    return {"sequence_id": number, "timestamp": (BEGAN + timedelta(seconds=number)).isoformat(), **more}


async def run(*command: str | Path, **environment: str) -> str:
    """What a program wrote, which has to end well."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **environment}
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_curl_and_the_client_of_influxdb(gateway: Gateway, tmp_path: Path) -> None:
    await _curl(gateway, tmp_path)
    await _curl_in_batches(gateway, tmp_path)
    await asyncio.to_thread(_influx, gateway)
    rows = await gateway.rows("room-1", 500)
    assert [row["temperature"] for row in rows] == [20 + number / 10 for number in range(500)]
    assert json.loads(rows[0]["extra_data"]) == {"measurement": "climate", "floor": "2", "co2": 400}
    assert rows[7]["time"] == BEGAN + timedelta(seconds=7)


async def _curl(gateway: Gateway, tmp_path: Path) -> None:
    """As docs/gateways.md shows it, and an answer that curl itself takes for a failure."""
    url = f"{gateway.url}/v1/users/{gateway.user}/devices/truck%201/telemetry"
    login = f"{gateway.user}:{PASSWORD}"
    body = json.dumps(reading(1, temperature=21.5, note="ü"))
    said = await run("curl", "-sS", "--fail-with-body", "-u", login, url, "-d", body)
    assert json.loads(said) == {"accepted": 1, "rejected": []}
    (row,) = await gateway.rows("truck 1", 1)
    assert (row["temperature"], json.loads(row["extra_data"])) == (21.5, {"note": "ü"})
    status = await run(
        "curl", "-sS", "-o", tmp_path / "body", "-w", "%{http_code}", "-u", f"{gateway.user}:wrong", url, "-d", body
    )
    assert status == "401"
    assert "wrong" not in (tmp_path / "body").read_text()


async def _curl_in_batches(gateway: Gateway, tmp_path: Path) -> None:
    """2,000 lines, compressed; of a body over a megabyte curl asks first whether it is welcome."""
    lines = [json.dumps(reading(n, user_id=gateway.user, device_id="fleet", temperature=n)) for n in range(2000)]
    (tmp_path / "lines.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    large = [json.dumps(reading(n, user_id=gateway.user, device_id="large", note="x" * 3000)) for n in range(500)]
    (tmp_path / "large.json").write_text(f"[{','.join(large)}]")
    for file, kind, coding, count in (
        ("lines.gz", "application/x-ndjson", "gzip", 2000),
        ("large.json", "application/json", "identity", 500),
    ):
        said = await run(
            "curl", "-sS", "--fail-with-body", f"{gateway.url}/v1/events", "--data-binary", f"@{tmp_path / file}",
            "-H", f"Authorization: Bearer {gateway.token}", "-H", f"Content-Type: {kind}",
            "-H", f"Content-Encoding: {coding}",
        )  # fmt: skip
        assert json.loads(said) == {"accepted": count, "rejected": []}
    assert len(await gateway.rows("fleet", 2000)) == 2000
    assert len(await gateway.rows("large", 500)) == 500


def _influx(gateway: Gateway) -> None:
    """InfluxDB's own client, with gzip: points in, an error for points that are none of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client's own
        with InfluxDBClient(gateway.url, gateway.token, org="any", enable_gzip=True) as client:
            assert client.ping()
            points = [
                {
                    "measurement": "climate",
                    "tags": {"device_id": "room-1", "floor": "2"},
                    "fields": {"temperature": 20 + number / 10, "co2": 400 + number},
                    "time": BEGAN + timedelta(seconds=number),
                }
                for number in range(500)
            ]
            with client.write_api(write_options=SYNCHRONOUS) as writes:
                writes.write("any", record=points)
                with pytest.raises(ApiException) as refused:
                    writes.write("any", record="climate,user_id=somebody-else,device_id=d temperature=1")
                assert refused.value.status == 403
                assert "may not publish" in str(refused.value.body)
        with (
            InfluxDBClient(gateway.url, "wrong", org="any") as client,
            client.write_api(write_options=SYNCHRONOUS) as writes,
        ):
            with pytest.raises(ApiException) as refused:
                writes.write("any", record=points[:1])
            assert refused.value.status == 401


OUTPUTS = {
    "influxdb_v2": '  urls = ["{url}"]\n  token = "{token}"\n  organization = "any"\n  bucket = "any"',
    "influxdb": '  urls = ["{url}"]\n  database = "any"\n  username = "{user}"\n  password = "{password}"',
}


@pytest.mark.parametrize("output", OUTPUTS)
async def test_telegraf(gateway: Gateway, tmp_path: Path, output: str) -> None:
    program, device = telegraf(), f"host-{output}"
    nanoseconds = [int((BEGAN + timedelta(seconds=number)).timestamp()) * 10**9 for number in range(100)]
    lines = [f"cpu,device_id={device} temperature={number},load=0.5 {at}" for number, at in enumerate(nanoseconds)]
    options = OUTPUTS[output].format(url=gateway.url, token=gateway.token, user=gateway.user, password=PASSWORD)
    await send_once(program, tmp_path, lines, output, options)
    rows = await gateway.rows(device, 100)
    assert [row["temperature"] for row in rows] == list(range(100))
