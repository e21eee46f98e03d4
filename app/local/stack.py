"""The embedded stack: which processes there are, with which settings, in which order they start and stop."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pydantic import SecretStr

from app.kafka.access import access
from app.kafka.topics import create, wanted
from app.local.fleet.devices import USERS
from app.local.ingest.accounts import put_accounts
from app.local.ingest.gateways import LocalGateways
from app.local.layout import SINK_SERVERS, SINKS, WAYS, Layout, sink_program
from app.local.own_program import Program
from app.local.servers.common import LOOPBACK
from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import BRIDGE, NOTIFIER, Mosquitto
from app.local.servers.postgres import Postgres
from app.local.servers.process import ChildProcess
from app.local.servers.tools import find, require
from app.local.sinks.sinks import OWN, LocalSinks, refuse_without_receiver
from app.local.start_progress import StartProgress
from app.local.supervisor import Service, Supervisor
from app.postgres.connect import owner_session
from app.postgres.schema.init_sql import apply, make_database
from app.postgres.schema.telemetry_table import add_missing
from app.runtime.command_line import program_command
from app.settings import Settings, load

SERVERS = ("kafka", "postgres", "mosquitto")
PROGRAMS = ("bridge", "worker", "notifier")
SINK_PROGRAMS = tuple(map(sink_program, SINKS))
STOP_ORDER = (
    "fleet", *WAYS, "bridge", "worker", *SINK_PROGRAMS, "notifier", *SINK_SERVERS, "mosquitto", "kafka", "postgres",
)  # fmt: skip
DATABASE = "iot"


class Stack:
    """One stack in one directory."""

    def __init__(
        self,
        layout: Layout,
        ports: Mapping[str, int],
        say: Callable[[str], None],
        meanwhile: Callable[[str], None] | None = None,
    ) -> None:
        """`ports`: one for each of DEFAULT_PORTS. `say` gets lines for a person, `meanwhile` those that the next one
        may replace (None: `say`). Nothing is started.
        """
        self.layout, self._say = layout, say
        self._progress = StartProgress(say, meanwhile)
        self.supervisor = Supervisor(layout, say)
        self.ports = ports
        root = layout.root
        self.kafka = Kafka(root / "kafka", self.ports["kafka"], layout.log("kafka"))
        self.kafka.report = partial(self._progress.note, "kafka")
        self.postgres = Postgres(root / "postgres", self.ports["postgres"], layout.log("postgres"))
        self.mosquitto = Mosquitto(root / "mosquitto", self.ports["mosquitto"], layout.log("mosquitto"), USERS)
        self.gateways = LocalGateways(layout, ports, self.mosquitto.username)
        self.sinks = LocalSinks(layout, ports)
        self.services: dict[str, Service] = {
            "kafka": self.kafka, "postgres": self.postgres, "mosquitto": self.mosquitto,
            "redis": self.sinks.redis, "influxdb": self.sinks.influxdb,
            **{name: self._program(name) for name in ("fleet", *PROGRAMS, *WAYS, *SINK_PROGRAMS)},
        }  # fmt: skip

    @property
    def metrics_url(self) -> str:
        """Where the worker's /metrics, /live and /ready are."""
        return f"http://{LOOPBACK}:{self.ports['worker']}"

    def env(self) -> dict[str, str]:
        """What stack.env says, without the IOT_ prefix; the MQTT account is the operator's, with its password."""
        return {
            "KAFKA_BROKER": self.kafka.bootstrap,
            "DATABASE_URL": self.postgres.dsn_of(DATABASE),
            "MQTT_HOST": self.mosquitto.host,
            "MQTT_PORT": str(self.mosquitto.port),
            "MQTT_USERNAME": self.mosquitto.username,
            "MQTT_PASSWORD": self.mosquitto.password,
            "METRICS_URL": self.metrics_url,
        }

    def settings(self) -> Settings:
        """The settings of this process with this stack's Kafka and database in them. Raises SettingsError."""
        return load().model_copy(
            update={
                "kafka_broker": self.kafka.bootstrap,
                "kafka_security_protocol": "PLAINTEXT",
                "database_url": SecretStr(self.postgres.dsn_of(DATABASE)),
                "database_tls": False,
            }
        )

    def _program(self, name: str) -> Program:
        # A worker may be in the middle of a write when it is stopped; other programs end at once.
        stop_within = 30.0 if name == "worker" else 15.0
        port = self.ports.get(name)
        process = ChildProcess(name, program_command(name), self.layout.log(name), env=self._program_env(name))
        return Program(process, port, stop_within)

    def _program_env(self, name: str) -> Mapping[str, str]:
        account = {"bridge": BRIDGE, "notifier": NOTIFIER}.get(name, self.mosquitto.username)
        values = {f"IOT_{key}": value for key, value in self.env().items() if key != "MQTT_PASSWORD"}
        return values | {
            "IOT_MQTT_USERNAME": account,
            "IOT_MQTT_PASSWORD_FILE": str(self.mosquitto.password_file(account)),
            "IOT_MQTT_GUARDED_IDS": "true",  # Mosquitto binds no client id to an account
            "IOT_MQTT_TLS": "false",  # its servers listen on the loopback address alone
            "IOT_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "IOT_DATABASE_TLS": "false",
            "IOT_BRIDGE_SHARE": "-",  # Mosquitto keeps plain subscriptions alone over a restart
            "IOT_METRICS_HOST": LOOPBACK,
            "IOT_METRICS_PORT": str(self.ports.get(name, 0)),
            "IOT_STATE_DIR": str(self.layout.root / "state"),
            "IOT_LOCAL_DIR": str(self.layout.root),
            **self.gateways.settings(name),
        }

    def own_settings(self) -> set[str]:
        """The fields of the settings that the stack itself sets, for a program of its own or in stack.env."""
        names = {name for service in self.services.values() for name in service.process.env}
        return {name.lower().removeprefix("iot_") for name in (*names, *self.env(), *OWN)}

    def bring_up(self) -> None:
        """Start what is missing, servers in parallel, and return once all of it is ready; writes stack.env. Blocks for
        as long as that takes, up to 60 s a process. Raises IotStreamError (PermanentError, TransientError) that says
        what did not start.
        """
        adopted = self.supervisor.adopt(self.services)
        if adopted:
            self._say(f"already running: {', '.join(sorted(adopted))}")
            self.layout.want_ways(adopted)
            self.layout.want_sinks(sink for sink in SINKS if sink_program(sink) in adopted)
            self.layout.want_sink_servers(adopted)
        with self._progress:
            self._install(self.commands(adopted))
            wanted = (*SERVERS, *PROGRAMS, *self.layout.ways(), *map(sink_program, self.layout.sinks()))
            self._progress.expect(len(wanted) + 1)  # and topics and schema
            self._start_all(SERVERS)
            with self._progress.step("topics and schema"):
                self._prepare()
            self._start_all(PROGRAMS)
            self._start_all(self._prepare_ways())
            self._start_all(self._prepare_sinks())
        self.supervisor.save()
        self._write_env()
        self.start_wanted()

    def _install(self, commands: Sequence[str]) -> None:
        if all(map(find, commands)):
            return
        self._progress.expect(1)
        with self._progress.step("missing programs"):
            require(*commands, report=partial(self._progress.note, "missing programs"))

    def commands(self, running: Collection[str] = ()) -> list[str]:
        """The programs of this machine that the servers which are wanted, and not `running`, start with."""
        sinks = self.layout.sinks()
        servers = {*SERVERS, *(self.sinks.servers(sinks, load()) if sinks else ())} - {*running}
        made = (
            ("kafka", self.kafka), ("mosquitto", self.mosquitto),
            ("redis", self.sinks.redis), ("influxdb", self.sinks.influxdb),
        )  # fmt: skip
        return [command for name, server in made if name in servers for command in server.commands]

    def start_wanted(self) -> None:
        """Start what `up` was asked for since: gateways, sinks, the simulated devices; returns without waiting until
        these are ready, but for the servers of sinks. Raises IotStreamError as `bring_up` does.
        """
        runs = self.supervisor.services
        if missing := [way for way in self.layout.ways() if way not in runs]:
            self._prepare_ways()
            for way in missing:
                self.supervisor.start(way, self.services[way])
            self._write_env()
        if any(sink_program(sink) not in runs for sink in self.layout.sinks()):
            for program in self._prepare_sinks():
                if program not in runs:
                    self.supervisor.start(program, self.services[program])
            self._write_env()
        if self.layout.fleet_wanted.exists():
            self.supervisor.start("fleet", self.services["fleet"])

    def _write_env(self) -> None:
        ways, sinks = self.layout.ways(), self.layout.sinks()
        values = self.env() | (self.sinks.settings(sinks, load()) if sinks else {})
        self.layout.write_env(values, self.gateways.addresses(ways) | self.sinks.addresses(sinks))

    def _prepare_ways(self) -> tuple[str, ...]:
        """The gateways that are wanted, once their files and the accounts are there."""
        ways = self.layout.ways()
        if ways:
            self.gateways.prepare(ways)
            asyncio.run(self._put_accounts())
        return ways

    def _prepare_sinks(self) -> tuple[str, ...]:
        """The programs of the sinks that are wanted, once what they write to in this stack is ready."""
        sinks = self.layout.sinks()
        if not sinks:
            return ()
        given = load()
        refuse_without_receiver(sinks, given)
        self.layout.want_sink_servers(self.sinks.servers(sinks, given))
        self._progress.expect(len(self.layout.sink_servers()))
        self._start_all(self.layout.sink_servers())
        for sink in sinks:
            own = {"SINK_INSTANCE_ID": "local"} | self.sinks.settings([sink], given)  # back at once after a kill
            self.services[sink_program(sink)].process.env |= {f"IOT_{name}": value for name, value in own.items()}
        return tuple(map(sink_program, sinks))

    async def _put_accounts(self) -> None:
        passwords = {name: self.mosquitto.password_of(name) for name in (self.mosquitto.username, *USERS)}
        async with owner_session(self.postgres.dsn_of(DATABASE), "accounts") as connection:
            await put_accounts(connection, passwords, self.mosquitto.username, self.gateways.token)

    def _start_all(self, names: tuple[str, ...]) -> None:
        with ThreadPoolExecutor(len(names) or 1) as pool:
            for outcome in [pool.submit(self._start, name) for name in names]:
                outcome.result()

    def _start(self, name: str) -> None:
        service = self.services[name]
        with self._progress.step(name):
            self.supervisor.start(name, service)
            service.wait_ready()

    def _prepare(self) -> None:
        """Topics and schema."""
        settings = self.settings()

        async def topics() -> None:
            if made := await create(access(settings), wanted(settings), 1):
                self._say(f"topics made: {', '.join(made)}")

        async def schema() -> None:
            await make_database(self.postgres.dsn, DATABASE)
            url = settings.database_url.get_secret_value()
            await apply(url)
            async with owner_session(url, "schema") as connection:
                for one in await add_missing(connection, settings.telemetry_schema):
                    self._say(f"raw_telemetry: {one.cure}")

        async def both() -> None:
            await asyncio.gather(topics(), schema())

        asyncio.run(both())

    def stop(self) -> None:
        """Stop all in order: programs that put work in, programs that take it out, servers; then remove stack.env.
        Blocks until all have ended.
        """
        self.supervisor.stop(STOP_ORDER)
        self.layout.forget()
