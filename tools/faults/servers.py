"""The three servers of a run, each with a proxy for the programs and a direct port for the auditors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from app.errors import TransientError
from app.local.servers.common import LOOPBACK, free_port
from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import Mosquitto
from app.local.servers.postgres import Postgres
from tests.conftest import INIT_SQL
from tests.workers import Site
from tools.faults.proxy import Proxy

STRANGER = "stranger"  # an MQTT account with the rights of a device
Server = Kafka | Postgres | Mosquitto


class Broker(Kafka):
    """Kafka with a second listener that advertises the port of a proxy."""

    def __init__(self, data_dir: Path, advertised: int) -> None:
        """`advertised`: the proxy's port."""
        super().__init__(data_dir)
        self.inner_port = free_port()
        self._advertised = advertised

    def _configure(self) -> Path:
        path = super()._configure()
        listeners = {
            "listeners=": f",PROXIED://{LOOPBACK}:{self.inner_port}",
            "advertised.listeners=": f",PROXIED://{LOOPBACK}:{self._advertised}",
            "listener.security.protocol.map=": ",PROXIED:PLAINTEXT",
        }
        lines = [
            line + next((more for name, more in listeners.items() if line.startswith(name)), "")
            for line in path.read_text().splitlines()
        ]
        path.write_text("\n".join([*lines, "inter.broker.listener.name=PLAINTEXT", ""]))
        return path


class Servers:
    """The targets of a run's faults: servers by name, and their proxies by the name of the link."""

    def __init__(self, directory: Path) -> None:
        """Prepare the servers in `directory`; `start` starts them."""
        self.links = {name: Proxy(name) for name in ("kafka link", "postgres link", "mqtt link")}
        self._directory = directory
        self.postgres = Postgres(directory / "postgres")
        self.mosquitto = Mosquitto(directory / "mosquitto", accounts=[STRANGER])
        self.kafka: Broker

    @property
    def by_name(self) -> dict[str, Server]:
        """The servers by their names in the schedule."""
        return {"Kafka": self.kafka, "PostgreSQL": self.postgres, "Mosquitto": self.mosquitto}

    async def start(self) -> None:
        """Start all servers and proxies, and wait until the servers are ready."""
        for proxy in self.links.values():
            await proxy.start()
        self.kafka = Broker(self._directory / "kafka", self.links["kafka link"].port)
        ports = (self.kafka.inner_port, self.postgres.port, self.mosquitto.port)
        for proxy, port in zip(self.links.values(), ports, strict=True):
            proxy.target = port
        await asyncio.gather(*(asyncio.to_thread(start, server) for server in self.by_name.values()))

    async def stop(self) -> None:
        """Stop all servers and proxies."""
        for proxy in self.links.values():
            await proxy.stop()
        for server in self.by_name.values():
            await asyncio.to_thread(server.stop)

    async def site(self, unique: str, directory: Path, **more: object) -> Site:
        """A site whose auditors connect directly, and whose programs connect through the proxies."""
        await execute(self.postgres.dsn, f"CREATE DATABASE {unique}")
        await execute(self.postgres.dsn_of(unique), INIT_SQL.read_text())
        kafka, postgres, mqtt = (self.links[name].port for name in ("kafka link", "postgres link", "mqtt link"))
        url = urlsplit(self.postgres.dsn_of(unique))
        through = {
            "kafka_broker": f"{LOOPBACK}:{kafka}",
            "database_url": url._replace(netloc=f"{url.username}:{url.password}@{LOOPBACK}:{postgres}").geturl(),
            "mqtt_port": mqtt,
        }
        return Site(
            self.kafka.bootstrap,
            self.postgres.dsn_of(unique),
            self.mosquitto,
            unique,
            directory,
            through | {"alerts_per_minute": 0} | more,
        )


def start(server: Server, tries: int = 10) -> None:
    """Start a server and wait until it is ready; after a kill its port and files may be busy for a moment."""
    for left in reversed(range(tries)):
        try:
            server.start()
            server.wait_ready()
        except TransientError:
            if not left:
                raise
        else:
            return


async def execute(dsn: str, sql: str) -> None:
    """Run SQL text in a database."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@asynccontextmanager
async def servers(directory: Path) -> AsyncIterator[Servers]:
    """The three servers, started, and stopped afterwards."""
    async with AsyncExitStack() as stack:
        made = Servers(directory)
        stack.push_async_callback(made.stop)
        await made.start()
        yield made
