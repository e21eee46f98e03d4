"""The gateways of a local stack: ports and directory in; each gateway's settings, and its lines in stack.env, out."""

import hashlib
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from app.core.routing.tokens import PREFIX, SECRET_BYTES
from app.local.ingest.certificates import LocalCertificates
from app.local.layout import Layout
from app.local.servers.common import LOOPBACK, write_private

LONGEST_SOCKET = 100  # bytes of a path; sun_path of Linux has 107, and gRPC puts its lock file beside the socket


class LocalGateways:
    """Where each of WAYS listens, and with which files."""

    def __init__(self, layout: Layout, ports: Mapping[str, int], account: str) -> None:
        """`ports`: one for each of DEFAULT_PORTS; `account`: the owner of the token and of the client's certificate."""
        self._ports, self._account = ports, account
        self._directory = layout.root / "ingest"
        self.certificates = LocalCertificates(self._directory / "certificates")
        self.socket = _short(self._directory / "grpc.sock")

    @property
    def token(self) -> str:
        """The operator's bearer token, made when first asked for (mode 0600)."""
        path = self._directory / "token"
        if not path.exists():
            self._private()
            write_private(path, f"{PREFIX}{secrets.token_urlsafe(SECRET_BYTES)}\n")
        return path.read_text().strip()

    def prepare(self, ways: Iterable[str]) -> None:
        """Make the files that the gateways `ways` want. Raises PermanentError when a package for that is missing."""
        self._private()
        if "quic" in ways:
            self.certificates.make(self._account)

    def settings(self, way: str) -> dict[str, str]:
        """The environment variables of the program `way`; empty for a program that is no gateway."""
        made = self.certificates
        match way:
            case "http" | "tcp":
                return {f"IOT_{way.upper()}_HOST": LOOPBACK, f"IOT_{way.upper()}_PORT": self._port(way)}
            case "grpc":  # an account that may open the socket of mode 0660 is this stack's operator
                return {"IOT_GRPC_SOCKET": str(self.socket), "IOT_GATEWAY_ANONYMOUS_ACCOUNT": self._account}
            case "quic":
                return {
                    "IOT_QUIC_HOST": LOOPBACK, "IOT_QUIC_PORT": self._port(way), "IOT_QUIC_CA_FILE": str(made.ca),
                    "IOT_QUIC_CERTIFICATE_FILE": str(made.server), "IOT_QUIC_KEY_FILE": str(made.server_key),
                }  # fmt: skip
        return {}

    def addresses(self, ways: Iterable[str]) -> dict[str, str]:
        """Names and values for stack.env: where each of these gateways is, with what a client shows it, and where its
        metrics are.
        """
        made, found = self.certificates, {"INGEST_TOKEN": self.token} if ways else dict[str, str]()
        own = {
            "http": {"HTTP_URL": f"http://{LOOPBACK}:{self._port('http')}"},
            "tcp": {"TCP_ADDRESS": f"{LOOPBACK}:{self._port('tcp')}"},
            "grpc": {"GRPC_SOCKET": str(self.socket)},
            "quic": {
                "QUIC_ADDRESS": f"{LOOPBACK}:{self._port('quic')}", "QUIC_CA": str(made.ca),
                "QUIC_CERT": str(made.client), "QUIC_KEY": str(made.client_key),
            },
        }  # fmt: skip
        for way in ways:
            found |= own[way] | {f"{way.upper()}_METRICS_URL": f"http://{LOOPBACK}:{self._ports[way]}"}
        return found

    def _private(self) -> None:
        """The directory is its owner's alone: a process that opens the socket in it is the operator's."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _port(self, way: str) -> str:
        return str(self._ports[f"{way} in"])


def _short(path: Path) -> Path:
    """A socket's path: below this directory, or elsewhere where that path would be too long for the system."""
    if len(bytes(path)) <= LONGEST_SOCKET:
        return path
    return Path(tempfile.gettempdir()) / f"iot-stream-{hashlib.sha256(bytes(path)).hexdigest()[:16]}.sock"
