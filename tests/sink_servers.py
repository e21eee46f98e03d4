"""Real destinations of sinks, with and without TLS: Redis, InfluxDB 1, and VictoriaMetrics where it is built."""

import asyncio
import base64
import hashlib
import json
import shutil
import signal
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from app.local.servers.common import LOOPBACK, exchange, free_port, wait_until_ready
from app.local.servers.process import ChildProcess
from app.local.servers.tools import find, require
from app.sinks.port import Sink, SinkUnavailable
from tests.secured import Certificates
from tools.command import ROOT

ACCOUNT, PASSWORD = "iot-sink", "a pass=word #1"  # not a secret


class Destination(Protocol):
    """A server that can be killed and frozen."""

    @property
    def process(self) -> ChildProcess: ...
    def start(self) -> None: ...
    def wait_ready(self) -> None: ...


@contextmanager
def running(server: Any) -> Iterator[Any]:
    """The server, started; killed at the end."""
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.process.kill()


@contextmanager
def frozen(server: Destination) -> Iterator[None]:
    """The server keeps its connections, and sends nothing."""
    server.process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.signal(signal.SIGCONT)


async def thawed(sink: Sink) -> dict[int, int]:
    """{partition: offset after the last record written} once all is written to a server that was frozen: it may take
    longer than the sink waits.
    """
    found: dict[int, int] = {}
    async with asyncio.timeout(20):
        while True:
            try:
                return found | dict((await sink.flush()).upto)
            except SinkUnavailable as error:
                found |= dict(error.so_far.upto)


class RedisServer:
    """A Redis without a password, or with the account ACCOUNT, which has exactly the rights of a sink."""

    def __init__(self, directory: Path, certificates: Certificates | None = None, lines: Sequence[str] = ()) -> None:
        self.directory, self.port, self._certificates, self._lines = directory, free_port(), certificates, lines
        self.process = ChildProcess("redis", [], directory / "redis.log")

    @property
    def url(self) -> str:
        """Without an account."""
        return f"{'rediss' if self._certificates else 'redis'}://{LOOPBACK}:{self.port}/0"

    @property
    def account_url(self) -> str:
        """With the account ACCOUNT."""
        return self.url.replace("://", f"://{ACCOUNT}:{urllib.parse.quote(PASSWORD, safe='')}@")

    def start(self) -> None:
        require("redis-server")
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = [f"bind {LOOPBACK}", f'dir "{self.directory}"', "appendonly yes", "appendfsync everysec", 'save ""']
        lines += ["port 0", f"tls-port {self.port}"] if self._certificates else [f"port {self.port}"]
        if made := self._certificates:
            lines += [f"tls-cert-file {made.server}", f"tls-key-file {made.server_key}", f"tls-ca-cert-file {made.ca}"]
        lines += self._lines
        path = self.directory / "redis.conf"
        path.write_text("\n".join(lines))
        self.process.command = [find("redis-server") or "redis-server", str(path)]
        self.process.start()

    def wait_ready(self) -> None:
        wait_until_ready(self.process, self._ready, 20.0)

    def _ready(self) -> bool:
        if self._certificates:
            return self.process.listens(self.port)
        return self.process.listens(self.port) and exchange(self.port, b"PING\r\n", 1) in (b"+", b"-")


def acl(*more: str) -> list[str]:
    """Lines for a Redis whose default account has no rights, and ACCOUNT the rights of docs/sinks.md and `more`."""
    rights = " ".join(("~iot:*", "+eval", "+evalsha", "+getrange", "+set", *more))
    return [f'user {ACCOUNT} on "#{_sha256(PASSWORD)}" {rights}', "user default off"]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class InfluxServer:
    """An InfluxDB 1, with a database `iot` once it is ready."""

    def __init__(self, directory: Path, certificates: Certificates | None = None, *, account: bool = False) -> None:
        self.directory, self.port, self._inner = directory, free_port(), free_port()
        self._certificates, self._account = certificates, account
        self.process = ChildProcess("influxdb", [], directory / "influxdb.log")

    @property
    def url(self) -> str:
        """Without an account."""
        return f"{'https' if self._certificates else 'http'}://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        require("influxd")
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = [
            "reporting-disabled = true", f'bind-address = "{LOOPBACK}:{self._inner}"',
            "[meta]", f'dir = "{self.directory}/meta"',
            "[data]", f'dir = "{self.directory}/data"', f'wal-dir = "{self.directory}/wal"',
            "[monitor]", "store-enabled = false",
            "[http]", f'bind-address = "{LOOPBACK}:{self.port}"', "log-enabled = false",
            f"auth-enabled = {str(self._account).lower()}",
        ]  # fmt: skip
        if made := self._certificates:
            lines += ["https-enabled = true", f'https-certificate = "{made.server}"']
            lines.append(f'https-private-key = "{made.server_key}"')
        path = self.directory / "influxdb.conf"
        path.write_text("\n".join(lines))
        self.process.command = [find("influxd") or "influxd", "run", "-config", str(path)]
        self.process.start()

    def wait_ready(self) -> None:
        wait_until_ready(self.process, self._ready, 30.0)
        if self._account:
            self.query(f"CREATE USER \"{ACCOUNT}\" WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES")
        self.query('CREATE DATABASE "iot"')

    def _ready(self) -> bool:
        if not self.process.listens(self.port):
            return False
        try:
            return _get(f"{self.url}/ping", self._certificates)[0] == 204
        except OSError:
            return False

    def query(self, statement: str) -> list[dict[str, Any]]:
        """The series that a statement of InfluxQL returns, times in microseconds."""
        words = {"q": statement, "db": "iot", "epoch": "u"}
        data = urllib.parse.urlencode(words).encode()
        answer = json.loads(_get(f"{self.url}/query", self._certificates, data)[1])
        assert "results" in answer, answer
        (found,) = answer["results"]
        assert "error" not in found, found
        series: list[dict[str, Any]] = found.get("series", [])
        return series

    def write(self, lines: str) -> None:
        """Write lines, times in nanoseconds."""
        status, said = _get(f"{self.url}/write?db=iot", self._certificates, lines.encode())
        assert status == 204, said

    def points(self, measurement: str = "telemetry") -> list[dict[str, Any]]:
        """The points of a measurement, by column, without nulls."""
        return [
            {name: value for name, value in zip(one["columns"], row, strict=True) if value is not None}
            for one in self.query(f'SELECT * FROM "{measurement}"')
            for row in one["values"]
        ]


class VictoriaServer:
    """A VictoriaMetrics, where scripts/victoriametrics has built it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        script = [str(ROOT / "scripts" / "victoriametrics"), "--where"]
        built = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
        self.program = built if Path(built).exists() else shutil.which("victoria-metrics")
        self.process = ChildProcess("victoriametrics", [], directory / "victoriametrics.log")

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        if self.program is None:
            pytest.skip("NOT TRIED: there is no VictoriaMetrics here (make tools builds it, with Go)")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process.command = [
            self.program, f"-httpListenAddr={LOOPBACK}:{self.port}", f"-storageDataPath={self.directory}/data",
            "-search.latencyOffset=0s", "-search.disableCache", "-retentionPeriod=100y", "-memory.allowedBytes=64MB",
        ]  # fmt: skip
        self.process.start()

    def wait_ready(self) -> None:
        wait_until_ready(self.process, self._ready, 30.0)

    def _ready(self) -> bool:
        try:
            return self.process.listens(self.port) and _get(f"{self.url}/health", None)[0] == 200
        except OSError:
            return False

    def series(self, name: str) -> list[tuple[dict[str, str], list[tuple[float, int]]]]:
        """Labels and list of (value, milliseconds) of each series with that name."""
        _get(f"{self.url}/internal/force_flush", None)
        words = {"match[]": f'{{__name__="{name}"}}', "start": "0", "end": "4000000000"}
        lines = _get(f"{self.url}/api/v1/export", None, urllib.parse.urlencode(words).encode())[1].splitlines()
        found = [json.loads(line) for line in lines]
        return [(one["metric"], list(zip(one["values"], one["timestamps"], strict=True))) for one in found]


def _get(url: str, certificates: Certificates | None, data: bytes | None = None) -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=str(certificates.ca)) if certificates else None
    login = base64.b64encode(f"{ACCOUNT}:{PASSWORD}".encode()).decode()  # a server without accounts ignores it
    request = urllib.request.Request(url, data, {"Authorization": f"Basic {login}"})
    try:
        with urllib.request.urlopen(request, timeout=10.0, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
