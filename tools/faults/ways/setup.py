"""The setup of a run's gateways: settings, an account and certificates, also for the senders."""

from dataclasses import dataclass
from pathlib import Path

from app.core.routing.tokens import PREFIX, digest
from app.local.ingest.certificates import LocalCertificates
from app.local.servers.common import LOOPBACK, free_port
from app.postgres.queries.mqtt_accounts import hashed
from tests.workers import Site

PASSWORD = "a password of the fault tests"
TOKEN = PREFIX + "t" * 43


@dataclass(frozen=True)
class Door:
    """The addresses of the gateways, and the account of their senders."""

    user: str
    http_port: int
    tcp_port: int
    quic_port: int
    grpc_socket: Path
    certificates: LocalCertificates
    password: str = PASSWORD
    token: str = TOKEN

    @property
    def http_url(self) -> str:
        """The URL of the HTTP gateway."""
        return f"http://{LOOPBACK}:{self.http_port}"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of gRPC calls."""
        return (("authorization", f"Bearer {self.token}"),)

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the gateways."""
        made = self.certificates
        return {
            "http_port": self.http_port, "tcp_port": self.tcp_port, "quic_port": self.quic_port,
            "grpc_socket": self.grpc_socket,
            "quic_certificate_file": made.server, "quic_key_file": made.server_key, "quic_ca_file": made.ca,
        }  # fmt: skip


def door(user: str, directory: Path) -> Door:
    """A door with free ports and new certificates; `directory` must be short enough for a socket's path."""
    directory.mkdir(exist_ok=True)
    certificates = LocalCertificates(directory)
    certificates.make(user)
    return Door(user, free_port(), free_port(), free_port(), directory / "grpc.sock", certificates)


async def open_account(site: Site) -> None:
    """Create the account of the site's user, as `iot-stream users add` and `iot-stream users token add` do."""
    await site.fetch(
        "INSERT INTO mqtt_users (username, user_id, password_hash) VALUES ($1, $1, $2)", site.unique, hashed(PASSWORD)
    )
    await site.fetch("INSERT INTO gateway_tokens (username, token_hash) VALUES ($1, $2)", site.unique, digest(TOKEN))
