"""Certificates of a CA of the test's own, for a gateway on the loopback address and for its clients."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.core.routing.certificate_names import device_uri


class GrpcCertificates:
    """A CA, the files of a server, and certificates for clients."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._ca, self._other = directory, trustme.CA(), trustme.CA()
        self.ca = self._write("ca.pem", self._ca.cert_pem.bytes())
        self.certificate, self.key = directory / "server.pem", directory / "server.key"
        self.renew()

    def renew(self) -> None:
        """Another certificate in the server's files."""
        made = self._ca.issue_cert("localhost", "127.0.0.1")
        self._write("server.key", made.private_key_pem.bytes())
        self._write("server.pem", made.cert_chain_pems[0].bytes())

    def settings(self, port: int) -> dict[str, object]:
        """Of a gateway with TLS, which asks for certificates."""
        return {
            "grpc_port": port,
            "grpc_certificate_file": self.certificate,
            "grpc_key_file": self.key,
            "grpc_ca_file": self.ca,
        }

    def client(self, name: str = "alice", device: str | None = None, days: int = 1, other_ca: bool = False) -> "Pair":
        """Of an account; `days` below 0: it has expired."""
        ca, key = (self._other if other_ca else self._ca), ec.generate_private_key(ec.SECP256R1())
        issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
        signer = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=10))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        )
        if device:
            names = [x509.DNSName("host.example"), x509.UniformResourceIdentifier(device_uri(device))]
            made = made.add_extension(x509.SubjectAlternativeName(names), False)
        signed = made.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return signed.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)

    def credentials(self, pair: "Pair | None") -> grpc.ChannelCredentials:
        """Of a client that shows the pair, or nothing."""
        certificate, key = pair or (None, None)
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), key, certificate)

    def _write(self, name: str, content: bytes) -> Path:
        path = self._directory / name
        path.write_bytes(content)
        return path


Pair = tuple[bytes, bytes]  # certificate and key, PEM
