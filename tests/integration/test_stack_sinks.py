"""`iot-stream up --sinks` as a user runs it: sinks and their servers start, are shown, write, restart, stop."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import redis

from app.local.servers.redis import Redis
from tests.integration.test_stack_ingest import asked
from tests.integration.test_stack_up import Stack, stack, wait

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
__all__ = ["stack"]  # the fixture

SINKS = ("parquet", "influx", "redis")  # that need no settings


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotate files within seconds; ignore the variables of this shell."""
    for name in [name for name in os.environ if name.startswith(("IOT_FEED_", "IOT_REDIS_", "IOT_INFLUX_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("IOT_PARQUET_ROTATE_SECONDS", "1")


def last_value(stack: Stack, user: str) -> dict[str, Any]:
    """The last value of the user's device in Redis."""
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as client:
        found: Any = client.get(f"iot:last:{user}/d1")
    return json.loads(found) if found else {}


def rows(stack: Stack, user: str) -> list[int]:
    """The sequence_ids in all files."""
    files = Path(stack.env["PARQUET_DIR"]).glob("day=*/*.parquet")
    found = [row for file in files for row in pq.ParquetFile(file).read(["user_id", "sequence_id"]).to_pylist()]
    return sorted(row["sequence_id"] for row in found if row["user_id"] == user)


def points(stack: Stack, user: str) -> int:
    """The number of points in InfluxDB."""
    env = stack.env
    query = f'SELECT count("temperature") FROM "telemetry" WHERE "user_id" = \'{user}\''
    command = [
        "curl", "-sS", "-u", f"{env['INFLUX_USERNAME']}:{env['INFLUX_PASSWORD']}", "--data-urlencode", f"q={query}",
        "--get", f"{env['INFLUX_URL']}/query?db={env['INFLUX_BUCKET']}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    (result,) = json.loads(done.stdout)["results"]
    return int(result["series"][0]["values"][0][1]) if "series" in result else 0


def test_sinks_of_the_local_stack(stack: Stack, unique: str) -> None:
    stack.up("--sinks", "parquet,redis")
    assert {"sink-parquet", "sink-redis", "redis"} <= stack.pids.keys()
    assert "influxdb" not in stack.pids
    assert "INFLUX_URL" not in stack.env
    for sequence in (1, 2, 3):
        stack.publish(unique, sequence)
    assert wait(lambda: last_value(stack, unique).get("sequence_id") == 3)
    assert wait(lambda: rows(stack, unique) == [1, 2, 3])

    before = stack.pids
    stack.up("--sinks", "influx")  # of a stack that runs only what is missing is started
    after = stack.pids
    assert after.keys() - before.keys() == {"sink-influx", "influxdb"}
    assert before.items() <= after.items()
    assert wait(lambda: points(stack, unique) == 3), "it begins with what Kafka holds"
    _nobody_else_may_read(stack)
    _they_are_shown(stack)
    _they_come_again(stack, unique, after)

    pids = stack.pids
    assert stack.run("down").returncode == 0
    assert [name for name, pid in pids.items() if psutil.pid_exists(pid)] == []
    stack.up("--sinks", "redis,parquet")
    assert last_value(stack, unique)["sequence_id"] == 4, "it is kept over a stop"
    assert rows(stack, unique) == [1, 2, 3, 4]
    assert "sink-influx" not in stack.pids, "nobody has asked for it this time"


def _nobody_else_may_read(stack: Stack) -> None:
    assert (stack.directory / "stack.env").stat().st_mode & 0o777 == 0o600
    for name, pid in stack.pids.items():
        if name.startswith("sink-") or name in ("redis", "influxdb"):
            found = psutil.Process(pid).net_connections("inet")
            assert {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}, name
            words = " ".join(psutil.Process(pid).cmdline())
            assert stack.env["INFLUX_PASSWORD"] not in words, "a command line is everybody's"
            assert stack.env["REDIS_URL"] not in words


def _they_are_shown(stack: Stack) -> None:
    code, status = stack.status()
    assert code == 0, status
    assert {f"sink-{sink}" for sink in SINKS} | {"redis", "influxdb"} <= status["processes"].keys()
    seen = asked(stack, "top", "--once", "--dir", str(stack.directory))
    assert [row["sink"] for row in seen["sinks"]] == sorted(SINKS)
    assert all(row["breaker"] == "closed" and row["difference"] == 0 for row in seen["sinks"]), seen["sinks"]
    assert {f"sink {sink}" for sink in SINKS} <= {row["name"] for row in seen["programs"]}
    found = [one for one in asked(stack, "doctor")["findings"] if one["area"] == "sink"]
    assert len([one for one in found if "the books balance" in one["what"]]) == len(SINKS), found
    # Whoever has read stack.env looks at the same places.
    environment = {**os.environ, **stack.env}
    command = [sys.executable, "-m", "app", "sink", "redis", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr


def _they_come_again(stack: Stack, user: str, known: dict[str, int]) -> None:
    for name in ("sink-redis", "redis", "sink-parquet"):
        os.kill(stack.pids[name], signal.SIGKILL)
    assert wait(lambda: all(stack.pids.get(name, pid) != pid for name, pid in known.items() if name == "sink-redis"))
    assert wait(lambda: stack.status()[0] == 0), stack.status()
    stack.publish(user, 4)
    assert wait(lambda: last_value(stack, user).get("sequence_id") == 4)
    assert wait(lambda: rows(stack, user) == [1, 2, 3, 4])
    assert wait(lambda: points(stack, user) == 4)


def test_a_sink_without_a_destination_is_refused_before_any_program_starts(tmp_path: Path) -> None:
    done = Stack(tmp_path / "none").run("up", "--detach", "--no-fleet", "--sinks", "redis,http_feed")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "iot-stream: sink-http_feed: its receiver is yours: set IOT_FEED_URL\n"
    assert not (tmp_path / "none").exists()


@pytest.fixture
def elsewhere(server_dir: Path) -> Iterator[str]:
    """The URL of a user's own Redis."""
    server = Redis(server_dir / "redis")
    server.start()
    try:
        server.wait_ready()
        yield server.url
    finally:
        server.stop()


def test_a_redis_of_ones_own(stack: Stack, unique: str, elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOT_REDIS_URL", elsewhere)
    stack.up("--sinks", "redis")
    assert "redis" not in stack.pids
    assert "REDIS_URL" not in stack.env
    stack.publish(unique, 7)

    def there() -> bool:
        with redis.Redis.from_url(elsewhere) as client:
            return bool(client.exists(f"iot:last:{unique}/d1"))

    assert wait(there)
