"""Names in a client certificate -> whose it is: the common name is the account, a URI of its own form a device of it.

Every gateway reads certificates alike. A name of a host (DNS, IP) stands in many a certificate and says nothing of a
device, so the form is never met by accident: `urn:iot-stream:device:<id>`, the id percent-encoded.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

DEVICE_URI = "urn:iot-stream:device:"


def bound_device(uris: Iterable[str]) -> str | None:
    """The device that a certificate with these URIs as alternative names is bound to; None: to none. Of several the
    first counts.
    """
    return next((unquote(uri[len(DEVICE_URI) :]) for uri in uris if uri.lower().startswith(DEVICE_URI)), None)


def device_uri(device: str) -> str:
    """The URI that binds a certificate to a device."""
    return DEVICE_URI + quote(device, safe="")


def peer_names(certificate: Mapping[str, Any]) -> tuple[str, str | None]:
    """Common name and device of a certificate, as ssl shows it (SSLSocket.getpeercert); "" and None where it has none.
    Of several common names the last counts.
    """
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    common = next((value for name, value in reversed(subject) if name == "commonName"), "")
    return common, bound_device(value for name, value in certificate.get("subjectAltName", ()) if name == "URI")
