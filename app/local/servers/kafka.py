"""A real Apache Kafka broker, one node in KRaft mode, on the loopback address."""

import base64
import secrets
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from app.errors import PermanentError, TransientError
from app.local.servers.common import LOOPBACK, exchange, free_port, wait_until_ready
from app.local.servers.kafka_jars import commands, kafka_jars
from app.local.servers.kafka_prepared import Prepared, prepared
from app.local.servers.process import ChildProcess
from app.local.servers.tools import find, require

# C1 compiler and the serial collector: ready in 1.8 s instead of 2.5 s (2 cores).
JVM = ["-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]

# message.max.bytes 2 MiB: a dead letter carries a payload of up to 1.09 MB in base64.
# broker.session.timeout.ms 4 s, not 9: after a kill the broker waits that long for its own old session to end.
# metadata.max.idle.interval.ms 0: to itself alone a controller need not show that it lives; two records a second, each
# brought to the disk, were half of what an idle broker took (1.4 % of a core; 0.7 % without).
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=12
message.max.bytes=2097152
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
offsets.topic.segment.bytes=16777216
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=4000
metadata.max.idle.interval.ms=0
log.cleaner.dedupe.buffer.size=33554432
"""


class Kafka:
    """One broker with its data in `data_dir`; the data survives a restart and a kill."""

    def __init__(self, data_dir: Path, port: int = 0, log: Path | None = None) -> None:
        """`port` 0 takes a free port, and keeps it for the life of this object."""
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.process = ChildProcess("kafka", [], log or self.data_dir / "kafka.log")
        self._prepared: Prepared | None = None
        self.report: Callable[[str], None] = lambda _: None  # told what a first start is doing

    @property
    def bootstrap(self) -> str:
        """host:port for a client."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        return self.process.pid

    @property
    def commands(self) -> tuple[str, ...]:
        """The programs of this machine that the start wants."""
        return commands()

    def start(self) -> None:
        """Start the broker, formatting the data directory first when it is new; fetches Kafka the first time. Raises
        PermanentError when that fails.
        """
        if self.process.alive():
            return
        require("java")
        java, jars = find("java") or "java", kafka_jars(self.report)

        def make(made: Prepared) -> None:
            self.report("preparing quick starts, once")
            _prepare(made, java, jars)

        self._prepared = prepared(java, jars, f"{JVM} {PROPERTIES}", make)
        self.report("starting")
        self.launch(java, jars, self._prepared.jvm if self._prepared else [])

    def launch(self, java: str, jars: Path, jvm: list[str]) -> None:
        """Start the broker with this Java, these jars and further options of the JVM. Raises PermanentError."""
        properties = self._configure()
        logging = Path(__file__).with_name("log4j2.properties")
        # Native libraries are unpacked into this directory at every start, and stay after a kill.
        unpacked = self.data_dir / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
        options = [f"-Dlog4j2.configurationFile={logging}", f"-Djava.io.tmpdir={unpacked}"]
        base = [java, *JVM, *options, "-cp", f"{jars}/*"]
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._format(base, properties)
        self.process.command = [*base[:1], *jvm, *base[1:], "kafka.Kafka", str(properties)]
        self.process.start()

    def _configure(self) -> Path:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        properties = self.data_dir / "server.properties"
        properties.write_text(
            PROPERTIES.format(host=LOOPBACK, port=self.port, controller=free_port(), data=self.data_dir / "log")
        )
        return properties

    def _format(self, base: list[str], properties: Path) -> None:
        if self._prepared and self._prepared.first_records.exists():
            log = self.data_dir / "log"
            log.mkdir(exist_ok=True)
            shutil.copyfile(self._prepared.first_records, log / "bootstrap.checkpoint")
            ids = f"cluster.id={_new_id()}\ndirectory.id={_new_id()}\n"
            (log / "meta.properties").write_text(f"version=1\nnode.id=1\n{ids}")
            return
        command = [*base, "kafka.tools.StorageTool", "format", f"--cluster-id={_new_id()}", "-c", str(properties)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermanentError(f"kafka: cannot format {self.data_dir}: {(done.stderr or done.stdout).strip()[-600:]}")

    def ready(self) -> bool:
        """Whether the broker answers and counts itself as alive."""
        if not self.process.listens(self.port):
            return False
        metadata_v1_of_no_topic = struct.pack(">hhihi", 3, 1, 0, -1, 0)
        answer = exchange(self.port, struct.pack(">i", len(metadata_v1_of_no_topic)) + metadata_v1_of_no_topic, 12)
        return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return once the broker takes requests. Raises TransientError after `timeout` seconds or when it died."""
        wait_until_ready(self.process, self.ready, timeout)

    def stop(self, deadline: float = 20.0) -> bool:
        """Shut down cleanly; SIGKILL after `deadline` seconds. True if the shutdown was clean."""
        return self.process.stop((signal.SIGTERM, deadline))

    def kill(self) -> None:
        """End the broker by SIGKILL."""
        self.process.kill()


def _new_id() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()


def _prepare(made: Prepared, java: str, jars: Path) -> None:
    """Start a broker for the archive alone: its JVM writes the file when it ends. Raises IotStreamError."""
    broker = Kafka(made.directory.with_name("broker"))
    try:
        broker.launch(java, jars, [f"-XX:ArchiveClassesAtExit={made.classes}"])
        broker.wait_ready()
        shutil.copyfile(broker.data_dir / "log" / "bootstrap.checkpoint", made.first_records)
        if not broker.stop(60.0):
            raise TransientError("kafka: its archive of classes took too long")
    finally:
        broker.kill()
