"""Real servers with TLS: certificates of a CA of our own, Kafka with each kind of listener, PostgreSQL, Mosquitto."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import asyncpg
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from app.local.servers.common import LOOPBACK, free_port
from app.local.servers.kafka import Kafka
from app.local.servers.mosquitto import Mosquitto
from app.local.servers.postgres import Postgres
from app.local.servers.postgres_home import Home

# Each has an account of its own, too.
PROGRAMS = (
    *("worker", "bridge", "gateways", "notifier", "topics create", "doctor", "trace", "tap", "top"),
    *("dlq ls", "dlq replay", "dlq import", "history reset", "history replay", "history verify"),
)
ACCOUNT, PASSWORD = "iot-program", "a pass=word with blanks"
LISTENERS = ("SSL", "MTLS", "SASL_SSL", "SASL_PLAINTEXT")

_LISTENER = """
listener.name.{lower}.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.{lower}.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{lower}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{lower}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{account}="{password}";
"""


class Certificates:
    """A CA, what it has signed for a server on the loopback address and for a client, and a CA nobody trusts."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca, self._strange = trustme.CA(), trustme.CA()
        self.ca = self._write("ca.pem", self._ca.cert_pem.bytes())
        self.strange_ca = self._write("strange-ca.pem", self._strange.cert_pem.bytes())
        self.server, self.server_key = self._pair("server", self._ca, LOOPBACK, "localhost")
        self.client, self.client_key = self._pair("client", self._ca, "iot-worker.example")
        self.strange, self.strange_key = self._pair("strange", self._strange, "iot-worker.example")
        self.elsewhere, self.elsewhere_key = self._pair("elsewhere", self._ca, "elsewhere.example")

    @property
    def encrypted_key(self) -> Path:
        """The client's, with a password."""
        key = load_pem_private_key(self.client_key.read_bytes(), None)
        secret = BestAvailableEncryption(b"secret")
        return self._write("encrypted-key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))

    def together(self, certificate: Path, key: Path) -> Path:
        """Both in one file, as Kafka wants it."""
        return self._write(f"{certificate.stem}-both.pem", key.read_bytes() + certificate.read_bytes())

    def _pair(self, name: str, ca: trustme.CA, *names: str) -> tuple[Path, Path]:
        made = ca.issue_cert(*names)
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # the one form Kafka takes
        certificate = b"".join(part.bytes() for part in made.cert_chain_pems)
        return self._write(f"{name}.pem", certificate), self._write(f"{name}-key.pem", pkcs8)

    def _write(self, name: str, content: bytes) -> Path:
        path = self._directory / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path


class SecuredKafka(Kafka):
    """Beside its plain listener one of each kind; ACCOUNT may log in where it is asked to."""

    def __init__(self, data_dir: Path, certificates: Certificates) -> None:
        super().__init__(data_dir)
        self.ports = {name: free_port() for name in LISTENERS}
        self._certificates = certificates

    def at(self, listener: str) -> str:
        """host:port of a listener."""
        return f"{LOOPBACK}:{self.ports[listener]}"

    def _configure(self) -> Path:
        path = super()._configure()
        text = path.read_text()
        more = "".join(f",{name}://{LOOPBACK}:{port}" for name, port in self.ports.items())
        for line in ("listeners=", "advertised.listeners="):
            old = next(one for one in text.splitlines() if one.startswith(line))
            text = text.replace(f"\n{old}\n", f"\n{old}{more}\n")
        protocols = ",".join(f"{name}:{'SSL' if name == 'MTLS' else name}" for name in LISTENERS)
        text = text.replace("PLAINTEXT:PLAINTEXT\n", f"PLAINTEXT:PLAINTEXT,{protocols}\n")
        both = self._certificates.together(self._certificates.server, self._certificates.server_key)
        text += (
            f"ssl.keystore.type=PEM\nssl.keystore.location={both}\n"
            f"ssl.truststore.type=PEM\nssl.truststore.location={self._certificates.ca}\n"
            "listener.name.mtls.ssl.client.auth=required\n"
            f"ssl.principal.mapping.rules=RULE:^.*$/{ACCOUNT}/\n"
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
            f"super.users=User:ANONYMOUS;User:{ACCOUNT}\n"  # all other accounts may do what they are allowed to alone
        )
        for name in ("sasl_ssl", "sasl_plaintext"):
            text += _LISTENER.format(lower=name, account=ACCOUNT, password=PASSWORD)
        path.write_text(text)
        return path

    def _format(self, base: list[str], properties: Path) -> None:
        """With the accounts in the first records of the log: there is no other way before anybody can log in."""
        command = [*base, "kafka.tools.StorageTool", "format", "--cluster-id=iot-secured-cluster-00", "-c"]
        command.append(str(properties))
        accounts = [(ACCOUNT, "SCRAM-SHA-256"), *((name, "SCRAM-SHA-512") for name in (ACCOUNT, *PROGRAMS))]
        for name, mechanism in accounts:
            command += ["--add-scram", f'{mechanism}=[name={account_of(name)},password="{PASSWORD}"]']
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr or done.stdout


def account_of(program: str) -> str:
    """The account of a program."""
    return program.replace(" ", "-")


class SecuredMosquitto(Mosquitto):
    """Beside its plain listener one with TLS, and one that wants the client's certificate as well."""

    def __init__(self, data_dir: Path, certificates: Certificates) -> None:
        super().__init__(data_dir)
        self.tls_port, self.mtls_port = free_port(), free_port()
        self._certificates = certificates

    def _configure(self) -> Path:
        path = super()._configure()
        made = self._certificates
        files = f"cafile {made.ca}\ncertfile {made.server}\nkeyfile {made.server_key}\n"
        more = f"listener {self.tls_port} {LOOPBACK}\n{files}"
        more += f"listener {self.mtls_port} {LOOPBACK}\n{files}require_certificate true\n"
        path.write_text(path.read_text() + more)
        return path


class SecuredPostgres(Postgres):
    """Takes TLS alone; the role `certified` has to show its certificate as well."""

    def __init__(self, data_dir: Path, certificates: Certificates) -> None:
        super().__init__(data_dir)
        self._certificates = certificates

    def _home(self) -> Home:
        return self._chosen

    @cached_property
    def _chosen(self) -> Home:
        """The system's programs: the wheel's programs are built without TLS. Skips the test where there are none."""
        home = super()._home()
        for programs in sorted(Path("/usr/lib/postgresql").glob("*/bin")):
            if (programs / "postgres").exists():
                return home._replace(bin=programs)
        pytest.skip("no PostgreSQL with TLS: apt-get install postgresql")

    def secure(self) -> None:
        """Switch TLS on; to be called once it runs."""
        made, home = self._certificates, self._home()
        for source, name in ((made.server, "server.crt"), (made.server_key, "server.key"), (made.ca, "root.crt")):
            target = home.data / name
            shutil.copy(source, target)
            target.chmod(0o600)
            if home.account:
                shutil.chown(target, home.account.uid, home.account.gid)
        rules = [
            "hostssl all certified 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
            "hostssl all all 127.0.0.1/32 scram-sha-256",
        ]
        (home.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        asyncio.run(self._reload())

    async def _reload(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        for statement in (
            "CREATE ROLE certified LOGIN PASSWORD 'certified'",
            "ALTER SYSTEM SET ssl_ca_file = 'root.crt'",
            "ALTER SYSTEM SET ssl = on",
            "SELECT pg_reload_conf()",
        ):
            await connection.execute(statement)
        await connection.close()
        while True:  # until the change takes effect
            try:
                connection = await asyncpg.connect(self.dsn, ssl="require", timeout=5)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.1)
                continue
            await connection.close()
            return


@contextmanager
def running(server: SecuredKafka | SecuredPostgres | SecuredMosquitto) -> Iterator[None]:
    """Started, ready, stopped afterwards."""
    server.start()
    try:
        server.wait_ready()
        yield
    finally:
        server.stop()
