"""Redis and InfluxDB of the local stack lose no data at kill -9, and need a password for reading."""

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from app.errors import TransientError
from app.local.servers.common import exchange
from app.local.servers.influxdb import InfluxDb
from app.local.servers.redis import Redis

pytestmark = pytest.mark.integration


def commanded(redis: Redis, command: str, answer: bytes) -> None:
    """Log in, send one command, and return the answer."""
    said = exchange(redis.port, f"AUTH {redis.password}\r\n{command}\r\n".encode(), 5 + len(answer))
    assert said == b"+OK\r\n" + answer


def test_redis(server_dir: Path) -> None:
    redis = Redis(server_dir / "redis")
    redis.start()
    try:
        redis.wait_ready()
        first, url = redis.pid, redis.url
        commanded(redis, "SET kept 7", b"+OK\r\n")
        redis.kill()
        assert not redis.ready()
        redis.start()
        redis.wait_ready()
        assert redis.pid != first
        assert redis.url == url == f"redis://:{redis.password}@127.0.0.1:{redis.port}/0"
        commanded(redis, "GET kept", b"$1\r\n7\r\n")
        assert exchange(redis.port, b"GET kept\r\n", 7) == b"-NOAUTH"
        for private in ("password", "redis.conf"):
            assert (redis.data_dir / private).stat().st_mode & 0o777 == 0o600
        assert reached_from_elsewhere(redis.port) is False
    finally:
        assert redis.stop()


def test_influxdb(server_dir: Path) -> None:
    influxdb = InfluxDb(server_dir / "influxdb")
    influxdb.start()
    try:
        influxdb.wait_ready()
        write(influxdb, b"kept,device=d1 value=7i 1700000000000000000")
        influxdb.kill()
        influxdb.start()
        influxdb.wait_ready()
        assert values(influxdb, 'SELECT value FROM "kept"') == [["2023-11-14T22:13:20Z", 7]]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{influxdb.url}/query?db=iot&q=SHOW+MEASUREMENTS", timeout=10)
        with pytest.raises(TransientError, match="error parsing query"):
            influxdb.query("SHOW NOTHING")
        for private in ("password", "influxdb.conf"):
            assert (influxdb.data_dir / private).stat().st_mode & 0o777 == 0o600
        assert reached_from_elsewhere(influxdb.port) is False
    finally:
        assert influxdb.stop()


def write(influxdb: InfluxDb, lines: bytes) -> None:
    """As its account."""
    url = f"{influxdb.url}/write?db={influxdb.database}&u={influxdb.account}&p={influxdb.password}"
    with urllib.request.urlopen(urllib.request.Request(url, lines), timeout=10) as answer:
        assert answer.status == 204


def values(influxdb: InfluxDb, statement: str) -> list[list[Any]]:
    """The rows of the only series found."""
    (result,) = json.loads(influxdb.query(statement))["results"]
    found: list[list[Any]] = result["series"][0]["values"]
    return found


def reached_from_elsewhere(port: int) -> bool:
    """Whether it listens on another address of this machine than the loopback one."""
    for *_, address in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET, socket.SOCK_STREAM):
        if not str(address[0]).startswith("127."):
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex(address) == 0:
                    return True
    return False
