"""Where the tests' servers come from: an address that was given, containers, or the embedded servers."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import Mosquitto
from app.local.servers.postgres import Postgres


class KafkaServer(Protocol):
    @property
    def bootstrap(self) -> str: ...


class PostgresServer(Protocol):
    @property
    def dsn(self) -> str: ...
    def dsn_of(self, database: str) -> str: ...


class MqttServer(Protocol):
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...


@dataclass(frozen=True)
class GivenKafka:
    bootstrap: str


@dataclass(frozen=True)
class GivenPostgres:
    dsn: str

    def dsn_of(self, database: str) -> str:
        return urlsplit(self.dsn)._replace(path=f"/{database}").geturl()


@dataclass(frozen=True)
class GivenMqtt:
    host: str
    port: int
    username: str
    password: str

    @classmethod
    def from_url(cls, url: str) -> "GivenMqtt":
        parts = urlsplit(url)
        return cls(
            parts.hostname or "127.0.0.1",
            parts.port or 1883,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
        )


@contextmanager
def server_directory() -> Iterator[Path]:
    """A short path every account may enter (PostgreSQL may run as another one), removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="iot-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def _running(server: Any) -> Iterator[Any]:
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


@contextmanager
def kafka() -> Iterator[KafkaServer]:
    """$IOT_TEST_KAFKA (host:port), Redpanda in a container, or the embedded Kafka."""
    if given := os.environ.get("IOT_TEST_KAFKA"):
        yield GivenKafka(given)
    elif wants_containers():
        from testcontainers.kafka import RedpandaContainer

        with RedpandaContainer("docker.redpanda.com/redpandadata/redpanda:v25.3.6") as container:
            yield GivenKafka(container.get_bootstrap_server())
    else:
        with server_directory() as directory, _running(Kafka(directory)) as server:
            yield server


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """$IOT_TEST_POSTGRES (a superuser's URL), TimescaleDB in a container, or the embedded PostgreSQL."""
    if given := os.environ.get("IOT_TEST_POSTGRES"):
        yield GivenPostgres(given)
    elif wants_containers():
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer("timescale/timescaledb:2.28.3-pg16", driver=None) as container:
            yield GivenPostgres(container.get_connection_url())
    else:
        with server_directory() as directory, _running(Postgres(directory)) as server:
            yield server


@contextmanager
def mosquitto() -> Iterator[MqttServer]:
    """$IOT_TEST_MQTT (mqtt://user:password@host:port), EMQX in a container, or the embedded Mosquitto."""
    if given := os.environ.get("IOT_TEST_MQTT"):
        yield GivenMqtt.from_url(given)
    elif wants_containers():
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.wait_strategies import PortWaitStrategy

        emqx = DockerContainer("emqx/emqx:5.8.9").with_exposed_ports(1883).waiting_for(PortWaitStrategy(1883))
        with emqx as container:  # without authenticators EMQX takes any account
            address = container.get_container_host_ip()
            yield GivenMqtt(address, int(container.get_exposed_port(1883)), "operator", "operator")
    else:
        with server_directory() as directory, _running(Mosquitto(directory)) as server:
            yield server


def wants_containers() -> bool:
    """Asked for by $IOT_TEST_CONTAINERS=1."""
    return os.environ.get("IOT_TEST_CONTAINERS") == "1"
