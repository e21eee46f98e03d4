"""What a call says of who makes it: in, its metadata and its certificate; out, credentials, or why they are none.

`authorization` decides where it is given; else the client certificate, whose common name is the user. A URI in it may
bind it to a device (core/routing/certificate_names.py). One that is not bound the caller may bind himself, by the
metadata `device-id`: he gets nothing by that but less.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from app.core.routing.certificate_names import bound_device

HOW = "send the metadata `authorization: Bearer <token>`, or `Basic` with user:password in base64"
LONGEST = 4096  # bytes of a header: bcrypt takes 72 of a password, a token has some 60
DEVICE = "device-id"


class TokenShown(NamedTuple):
    """A bearer token."""

    token: str


class PasswordShown(NamedTuple):
    """A user and a password."""

    user: str
    password: str


class CertificateShown(NamedTuple):
    """A client certificate that TLS has verified; `device` None: it is bound to none."""

    common_name: str
    device: str | None


class NothingShown(NamedTuple):
    """Neither metadata nor a certificate."""


class NoCredentials(NamedTuple):
    """What was shown is none of these; `detail` says what would be right, and nothing of what was shown."""

    detail: str


class OtherDevice(NamedTuple):
    """Good credentials, for another device than is asked for."""

    detail: str


Shown = TokenShown | PasswordShown | CertificateShown | NothingShown | NoCredentials | OtherDevice
Metadata = Iterable[tuple[str, str | bytes]]
AuthContext = Mapping[str, Iterable[bytes]]  # as gRPC names it: of a certificate the CN and the SANs


def shown(metadata: Metadata, certificate: AuthContext) -> Shown:
    """The credentials of a call, by its metadata, and its certificate as gRPC's auth context has it. Never raises."""
    given = dict.fromkeys(value for name, value in metadata if name == "authorization")
    if len(given) > 1:
        return NoCredentials("the metadata `authorization` is there twice, with two values")
    if given:
        return _authorization(next(iter(given)))
    common_name = _text(certificate.get("x509_common_name", ()))
    if common_name is None:
        return NothingShown()
    if not common_name:
        return NoCredentials("the client certificate's subject has no CN, which names the user")
    return _certificate(common_name, metadata, certificate)


def _authorization(value: str | bytes) -> Shown:
    if not isinstance(value, str) or len(value) > LONGEST:
        return NoCredentials(f"the metadata `authorization` is no text of up to {LONGEST} characters: {HOW}")
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return TokenShown(rest.strip())
    if scheme.lower() == "basic":
        try:
            user, colon, password = b64decode(rest.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):  # UnicodeDecodeError too
            return NoCredentials(f"what follows `Basic` is no user:password in base64: {HOW}")
        if colon:
            return PasswordShown(user, password)
    return NoCredentials(f"the metadata `authorization` has no scheme that is known: {HOW}")


def _certificate(common_name: str, metadata: Metadata, certificate: AuthContext) -> Shown:
    bound = bound_device(name.decode("utf-8", "replace") for name in certificate.get("peer_uri", ()))
    wanted = next((value for name, value in metadata if name == DEVICE), None)
    if isinstance(wanted, bytes):
        return NoCredentials(f"the metadata `{DEVICE}` is no text")
    if bound is not None and wanted not in (None, bound):
        return OtherDevice(f"the certificate is bound to another device than the metadata `{DEVICE}` names")
    return CertificateShown(common_name, wanted if bound is None else bound)


def _text(values: Iterable[bytes]) -> str | None:
    first = next(iter(values), None)
    return None if first is None else first.decode("utf-8", "replace")
