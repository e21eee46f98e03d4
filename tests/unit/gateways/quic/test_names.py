"""Whose a certificate is."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.core.routing.certificate_names import device_uri
from app.gateways.quic.names import names

ENDS = datetime(2030, 1, 1, tzinfo=UTC)


def made(*common_names: str, others: tuple[x509.GeneralName, ...] = ()) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ENDS - timedelta(days=1))
        .not_valid_after(ENDS)
    )
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return builder.sign(key, hashes.SHA256())


def test_the_common_name_is_the_account() -> None:
    assert names(made("alice")) == ("alice", None, ENDS.timestamp())
    assert names(made("Ünicode ☃")) == ("Ünicode ☃", None, ENDS.timestamp())


def test_a_uri_binds_it_to_a_device_and_no_other_name_does() -> None:
    others = (x509.DNSName("node.example.com"), x509.UniformResourceIdentifier(device_uri("Boiler 1/ä")))
    assert names(made("alice", others=others)) == ("alice", "Boiler 1/ä", ENDS.timestamp())
    assert names(made("alice", others=others[:1])) == ("alice", None, ENDS.timestamp())


def test_a_certificate_without_a_common_name_or_with_two_is_nobodys() -> None:
    assert names(made()) is None
    assert names(made("alice", "bob")) is None
