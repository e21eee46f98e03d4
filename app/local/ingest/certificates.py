"""Certificates of the local stack: an own CA, and what it has signed for its QUIC gateway and for one client."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import PermanentError
from app.local.servers.common import LOOPBACK, write_private

if TYPE_CHECKING:  # cryptography comes with the extra `gateways`, and is imported when a certificate is made
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey as Key
    from cryptography.x509 import Certificate, KeyUsage

VALID = timedelta(days=365)
RENEW = timedelta(days=30)  # a certificate that ends sooner is renewed at the next start
BACKDATED = timedelta(hours=1)  # a clock of this machine may be set back


class LocalCertificates:
    """PEM files in one directory, each its owner's alone. The key of the CA is thrown away with the process."""

    def __init__(self, directory: Path, valid: timedelta = VALID) -> None:
        """`valid`: for how long certificates are valid, from when they are made."""
        self._valid, self.ca = valid, directory / "ca.pem"
        self.server, self.server_key = directory / "server.pem", directory / "server.key"
        self.client, self.client_key = directory / "client.pem", directory / "client.key"

    def make(self, account: str) -> None:
        """Make all of the files, unless they are there and do not end within RENEW; the client's certificate names
        `account`.

        Raises PermanentError when the package that makes them is not installed.
        """
        try:
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError as error:
            raise PermanentError(
                "certificates for QUIC need one more package: pip install 'iot-stream[gateways]'"
            ) from error
        if self._good(account):
            return
        self.ca.parent.mkdir(parents=True, exist_ok=True)
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        until = datetime.now(UTC) + self._valid
        ca = _certificate("iot-stream local CA", keys[0], None, until)
        server = _certificate("localhost", keys[1], (ca, keys[0]), until)
        client = _certificate(account, keys[2], (ca, keys[0]), until, server=False)
        _write(self.server_key, self.server, keys[1], server)
        _write(self.client_key, self.client, keys[2], client)
        write_private(self.ca, _pem(ca))  # last: a start that was broken off makes all files again

    def _good(self, account: str) -> bool:
        from cryptography import x509

        if not all(path.exists() for path in (self.ca, self.server, self.server_key, self.client, self.client_key)):
            return False
        soon = datetime.now(UTC) + RENEW
        read = [x509.load_pem_x509_certificate(path.read_bytes()) for path in (self.ca, self.server, self.client)]
        names = read[2].subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return [name.value for name in names] == [account] and all(one.not_valid_after_utc > soon for one in read)


def _certificate(
    name: str, key: Key, issuer: tuple[Certificate, Key] | None, until: datetime, *, server: bool = True
) -> Certificate:
    """A certificate that `issuer` has signed: of a server of this machine, or of a client; without an issuer a CA's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    subject, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    signer, signing = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .add_extension(_usage(ca=issuer is None), critical=True)
    )
    if issuer and server:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if issuer:
        purpose = x509.oid.ExtendedKeyUsageOID.SERVER_AUTH if server else x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH
        made = made.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return made.sign(signing, hashes.SHA256())


def _usage(*, ca: bool) -> KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not ca, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _write(key_file: Path, file: Path, key: Key, certificate: Certificate) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(key_file, private.decode())
    write_private(file, _pem(certificate))


def _pem(certificate: Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()
