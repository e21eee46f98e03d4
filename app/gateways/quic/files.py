"""Files of certificates -> what aioquic's server and the check of clients need; SettingsError for what is wrong."""

from pathlib import Path

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import crypto

from app.errors import SettingsError
from app.gateways.quic import mutual
from app.runtime.quic.contract import ALPN

_CURVES = (ec.SECP256R1, ec.SECP384R1)
_UNREADABLE = (OSError, ValueError, TypeError, UnsupportedAlgorithm)  # TypeError: the key is encrypted


def configuration(certificate: Path, key: Path | None, idle_seconds: float) -> QuicConfiguration:
    """The configuration of a server with this certificate; `key` None: it is in the same file. Both are PEM. Raises
    SettingsError that names the setting and the file, also for a key of another kind than QUIC uses here.
    """
    made = QuicConfiguration(is_client=False, alpn_protocols=[ALPN], idle_timeout=idle_seconds)
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        made.certificate, made.certificate_chain = chain[0], chain[1:]
        made.private_key = load_pem_private_key((key or certificate).read_bytes(), password=None)
    except _UNREADABLE as error:
        pair = f"IOT_QUIC_CERTIFICATE_FILE, IOT_QUIC_KEY_FILE: {certificate} and {key or 'the key in it'}"
        raise SettingsError(f"{pair} are no certificate and its key in PEM: {error}") from None
    if not _usable(made.private_key):
        raise SettingsError(
            f"IOT_QUIC_KEY_FILE: {key or certificate} holds a key that QUIC does not use here;"
            " make one of P-256, P-384, Ed25519 or RSA"
        )
    return made


def client_authorities(file: Path) -> crypto.X509Store:
    """The CAs, of a file in PEM, whose clients are let in. Raises SettingsError."""
    try:
        return mutual.trusted(file)
    except _UNREADABLE as error:
        raise SettingsError(f"IOT_QUIC_CA_FILE: {file} holds no CA certificate in PEM: {error}") from None


def _usable(key: object) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return isinstance(key.curve, _CURVES)
    return isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
