"""grpcurl at `iot-stream grpc`: it finds the service by reflection, and says what the gateway answers."""

import asyncio
import json
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from app.core.routing.tokens import PREFIX
from tests.integration.bridges import read_topic
from tests.integration.test_grpc_gateway import TIME_US, TOKEN, Site
from tests.integration.test_grpc_gateway import gateway as gateway
from tests.integration.test_grpc_gateway import site as site
from tools.command import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("gateway")]

SERVICE = "iot_stream.ingest.v1.Ingest"


class Said(NamedTuple):
    """What grpcurl printed, and how it ended."""

    code: int
    out: str
    error: str


@cache
def _program() -> Path:
    """Where it is; the test is skipped, and says so, where it could not be built."""
    done = subprocess.run([str(ROOT / "scripts" / "grpcurl"), "--where"], capture_output=True, text=True, check=True)
    path = Path(done.stdout.strip())
    if not path.exists():
        pytest.skip("grpcurl was not built, so that the gRPC gateway is NOT checked with it: `make tools` (wants Go)")
    return path


async def grpcurl(site: Site, *words: str, token: str | None = TOKEN, data: object = None) -> Said:
    """Run it at the socket."""
    command = [str(_program()), "-plaintext", "-unix"]
    command += ["-H", f"authorization: Bearer {token}"] if token else []
    command += ["-d", json.dumps(data)] if data is not None else []
    process = await asyncio.create_subprocess_exec(
        *command, str(site.socket), *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), error.decode())


async def test_it_lists_and_describes_what_there_is(site: Site) -> None:
    listed = await grpcurl(site, "list", token=None)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(listed.out.split()), listed.error
    described = await grpcurl(site, "describe", f"{SERVICE}.PushMetrics", token=None)
    assert "PushMetricsRequest" in described.out
    assert "BatchAck" in described.out
    message = await grpcurl(site, "describe", "iot_stream.metrics.v1.Metric", token=None)
    assert "sensor_id" in message.out


async def test_it_pushes_a_batch_and_a_stream_of_them(site: Site) -> None:
    metric = {"node_id": "n1", "sensor_id": "s1", "value": 21.5, "time_us": str(TIME_US), "sequence_id": "1"}
    bad = {**metric, "sensor_id": "a/b"}
    pushed = await grpcurl(site, f"{SERVICE}/PushMetrics", data={"batch": {"batch_id": 7, "metrics": [metric, bad]}})
    assert pushed.code == 0, pushed.error
    ack = json.loads(pushed.out)
    assert (ack["batch_id"], ack["accepted"]) == ("7", 1)
    assert [(one["index"], one["reason"]) for one in ack["rejected"]] == [(1, "bad_id")]
    streamed = await grpcurl(site, f"{SERVICE}/StreamMetrics", data={"batch_id": 8, "metrics": [metric]})
    assert json.loads(streamed.out) == {"batch_id": "8", "accepted": 1}
    found = await read_topic(site.kafka, site.topic, lambda records: len(records) >= 2)
    assert [json.loads(record.value)["value"] for record in found] == [21.5, 21.5]


async def test_it_shows_health_and_refusals_in_words(site: Site) -> None:
    health = json.loads((await grpcurl(site, f"{SERVICE}/GetHealth", token=None)).out)
    assert health["status"] == "STATUS_SERVING"
    check = json.loads((await grpcurl(site, "grpc.health.v1.Health/Check", token=None)).out)
    assert check == {"status": "SERVING"}
    for token, words in ((None, "no credentials"), (f"{PREFIX}{'x' * 43}", "no account")):
        refused = await grpcurl(site, f"{SERVICE}/PushMetrics", token=token, data={})
        assert refused.code != 0
        assert "Unauthenticated" in refused.error
        assert words in refused.error
