"""A client certificate that is verified -> whose it is, and until when."""

from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from app.core.routing.certificate_names import bound_device


class Names(NamedTuple):
    """What a certificate says of its owner."""

    user: str  # its common name
    device: str | None  # of a URI among its alternative names
    ends: float  # seconds since 1970


def names(certificate: x509.Certificate) -> Names | None:
    """Whose a certificate is, and until when; None when it names nobody, or several."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) != 1 or not isinstance(found[0].value, str) or not found[0].value:
        return None
    return Names(found[0].value, bound_device(_uris(certificate)), certificate.not_valid_after_utc.timestamp())


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return alternative.get_values_for_type(x509.UniformResourceIdentifier)
