"""Files of certificates -> what a sender shows and trusts; SettingsError for what is wrong."""

from pathlib import Path

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.errors import SettingsError
from app.runtime.quic.contract import ALPN

IDLE_SECONDS = 300.0
_UNREADABLE = (OSError, ValueError, TypeError, UnsupportedAlgorithm)  # TypeError: the key is encrypted


def client_configuration(ca: Path, certificate: Path, key: Path | None, server_name: str) -> QuicConfiguration:
    """The configuration of a sender, which shows `certificate`, and trusts a gateway of this name that the CA has
    signed for. All files are PEM.

    `key` None: the key is in the file of the certificate; `server_name`: a name or an address. Raises SettingsError
    that names the file which cannot be used, and for a key that is not the certificate's.
    """
    made = QuicConfiguration(
        is_client=True, alpn_protocols=[ALPN], idle_timeout=IDLE_SECONDS, server_name=server_name, cafile=str(ca)
    )
    try:
        x509.load_pem_x509_certificates(ca.read_bytes())
    except _UNREADABLE as error:
        raise SettingsError(f"{ca} holds no CA certificate in PEM: {error}") from None
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        made.certificate, made.certificate_chain = chain[0], chain[1:]
        made.private_key = load_pem_private_key((key or certificate).read_bytes(), password=None)
    except _UNREADABLE as error:
        raise SettingsError(
            f"{certificate} and {key or 'the key in it'} are no certificate and its key in PEM: {error}"
        ) from None
    if not _fits(made.private_key, chain[0]):
        raise SettingsError(
            f"{key or 'the key'} is not that of {certificate}: the gateway would refuse the certificate"
        )
    return made


def _fits(key: object, certificate: x509.Certificate) -> bool:
    """Whether `key` is the key of this certificate, and can sign."""
    found = getattr(key, "public_key", None)
    return found is not None and bool(found() == certificate.public_key())
