"""`iot-stream up --ingest` as a person uses it: gateways come up, are shown, take readings, come again, and go."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.local.layout import WAYS
from tests.integration.test_stack_up import Stack, stack, wait

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
__all__ = ["stack"]  # the fixture

ADDRESSES = {
    "http": ["HTTP_URL"], "tcp": ["TCP_ADDRESS"], "grpc": ["GRPC_SOCKET"],
    "quic": ["QUIC_ADDRESS", "QUIC_CA", "QUIC_CERT", "QUIC_KEY"],
}  # fmt: skip


def post(stack: Stack, authorization: str, sequence: int, user: str) -> int:
    """Status of one reading sent over HTTP."""
    body = json.dumps({"sequence_id": sequence, "timestamp": time.time(), "temperature": 21.5}).encode()
    url = f"{stack.env['HTTP_URL']}/v1/users/{user}/devices/d1/telemetry"
    request = urllib.request.Request(url, body, {"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def basic(stack: Stack) -> str:
    """The operator's, by his password."""
    word = f"{stack.env['MQTT_USERNAME']}:{stack.env['MQTT_PASSWORD']}"
    return f"Basic {base64.b64encode(word.encode()).decode()}"


def asked(stack: Stack, *words: str) -> Any:
    """What a command says as JSON, in the environment of the stack."""
    environment = {**os.environ, **stack.env, "IOT_LOCAL_DIR": str(stack.directory)}
    command = [sys.executable, "-m", "app", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=environment)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def records(stack: Stack, way: str) -> float:
    """The readings that a gateway has answered."""
    with urllib.request.urlopen(f"{stack.env[f'{way.upper()}_METRICS_URL']}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("iot_gateway_records_total{"))


def fleets(stack: Stack) -> dict[str, str]:
    """What the simulated devices of each way say after they have sent for a while."""
    command = [sys.executable, "-m", "app", "fleet", "--dir", str(stack.directory), "--rate", "20", "--via"]
    running = {way: subprocess.Popen([*command, way], stderr=subprocess.PIPE, text=True) for way in WAYS}
    try:
        assert wait(lambda: all(records(stack, way) > 800 for way in WAYS), 60), "each gateway answers"
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        said = {way: process.communicate(timeout=30)[1] for way, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
    assert all(process.returncode == 0 for process in running.values()), said
    return said


def test_gateways_of_the_local_stack(stack: Stack, unique: str) -> None:
    stack.up("--ingest", "http,tcp")
    assert {"http", "tcp"} <= stack.pids.keys()
    assert "GRPC_SOCKET" not in stack.env
    assert post(stack, basic(stack), 1, unique) == 200
    before = stack.pids
    stack.up("--ingest", "all")  # of a stack that runs only what is missing is started
    after = stack.pids
    assert after.keys() - before.keys() == {"grpc", "quic"}
    assert before.items() <= after.items()
    _addresses_are_right(stack)

    assert post(stack, f"Bearer {stack.env['INGEST_TOKEN']}", 2, unique) == 200
    assert post(stack, f"Bearer {stack.env['INGEST_TOKEN'][:-1]}x", 3, unique) == 401
    assert wait(lambda: stack.rows(unique) == 2)
    for way, said in fleets(stack).items():
        answered, refused = (int(word.split()[0].replace(",", "")) for word in said.split(" refused")[0].split(", "))
        assert answered > 20 * refused
        assert answered > 200, f"{way}: {answered} answered, {refused} refused"

    _they_are_shown(stack)
    os.kill(stack.pids["http"], signal.SIGKILL)
    assert wait(lambda: stack.pids.get("http", after["http"]) != after["http"]), "the gateway is started again"
    assert wait(lambda: stack.status()[0] == 0), stack.status()
    assert post(stack, basic(stack), 4, unique) == 200

    pids, socket = stack.pids, Path(stack.env["GRPC_SOCKET"])
    assert stack.run("down").returncode == 0
    assert [name for name, pid in pids.items() if psutil.pid_exists(pid)] == []
    assert not socket.exists()


def _addresses_are_right(stack: Stack) -> None:
    env = stack.env
    for way, names in ADDRESSES.items():
        assert all(env.get(name) for name in (*names, f"{way.upper()}_METRICS_URL")), way
    assert all(Path(env[name]).is_file() for name in ADDRESSES["quic"][1:])
    assert [name for name in env if name.startswith("IOT_HTTP") or name.startswith("IOT_QUIC")] == []
    assert Path(env["GRPC_SOCKET"]).stat().st_mode & 0o777 == 0o660
    for name, pid in stack.pids.items():
        if name in WAYS:
            found = psutil.Process(pid).net_connections("inet")
            hosts = {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN or not one.raddr}
            assert hosts == {"127.0.0.1"}, name
    code, status = stack.status()
    assert code == 0, status
    assert {name for name in status["processes"] if name in WAYS} == set(WAYS)


def _they_are_shown(stack: Stack) -> None:
    rows = {row["name"]: row for row in asked(stack, "top", "--once", "--dir", str(stack.directory))["programs"]}
    assert set(WAYS) <= set(rows)
    assert all(rows[way]["up"] and rows[way]["ready"] for way in WAYS), rows
    found = [one for one in asked(stack, "doctor", "--metrics", stack.env["METRICS_URL"])["findings"]]
    assert "worker" in {one["area"] for one in found}
    found = [one for one in asked(stack, "doctor")["findings"] if one["area"] == "gateway"]
    assert len([one for one in found if "records acknowledged" in one["what"]]) == len(WAYS)
