"""Client certificates in aioquic's handshake: asked for, refused when there is none, and verified.

aioquic 1.7.2 asks for one behind a private flag ("for test purposes only"), takes an empty answer for one, and looks
neither at the chain nor at dates. Here it does what a server with OpenSSL's CERT_REQUIRED does: the chain up to a CA of
the file, the dates of all of it, that it is the certificate of a client; and, which is aioquic's part, the proof that
the peer holds its key. Keys for stream data come after all that, so nothing is read of anybody who fails it. Each check
comes before the state moves on: a peer who failed one gets no further with whatever he sends next.

Private parts of aioquic are used here and in connection.py: tests/contract/gateways/quic/test_aioquic_internals.py
watches them. Revocation lists are not looked at: an account is taken away instead.
"""

from pathlib import Path
from typing import TypeVar

from aioquic import tls
from aioquic._buffer import Buffer
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from app.runtime.quic.contract import Alert

# X509_V_ERR_*: what OpenSSL found wrong -> the alert that says so; all others are a bad certificate.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_ISSUER = (2, 18, 19, 20, 21)  # no issuer, self-signed (leaf or chain), issuer not found locally, not verified
# What OpenSSL may raise at a certificate that it cannot make anything of.
_UNREADABLE = (crypto.Error, ValueError, TypeError)


def trusted(file: Path) -> crypto.X509Store:
    """The CAs of a file in PEM. Raises OSError, and ValueError when it holds none."""
    found = x509.load_pem_x509_certificates(file.read_bytes())
    store = crypto.X509Store()
    for one in found:
        store.add_cert(crypto.X509.from_cryptography(one))
    return store


E = TypeVar("E", bound=x509.ExtensionType)


class MutualContext(tls.Context):
    """The server's side of a handshake that ends without a good client certificate."""

    trusted: crypto.X509Store
    client_certificate: x509.Certificate | None = None  # verified, and the peer has proved that it holds the key

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        message = Buffer(data=input_buf.data_slice(0, input_buf.capacity))
        if not tls.pull_certificate(message).certificates:
            raise alert(Alert.CERTIFICATE_REQUIRED, "a client certificate is required")
        super()._server_handle_certificate(input_buf)

    def _server_handle_certificate_verify(self, input_buf: Buffer) -> None:
        certificate = self._peer_certificate
        assert certificate is not None, "the handshake needs a client certificate"
        verify(certificate, self._peer_certificate_chain, self.trusted)
        super()._server_handle_certificate_verify(input_buf)
        self.client_certificate = certificate


def require_client_certificate(context: tls.Context, store: crypto.X509Store) -> MutualContext:
    """Have a fresh context of a server require a client certificate of one of these CAs; before its first message."""
    assert context.state is tls.State.SERVER_EXPECT_CLIENT_HELLO, "too late: it may have answered already"
    context.__class__ = MutualContext
    assert isinstance(context, MutualContext)
    context.trusted = store
    context._request_client_certificate = True
    return context


def verify(certificate: x509.Certificate, chain: list[x509.Certificate], store: crypto.X509Store) -> None:
    """Look at chain, dates and purpose of a client's certificate; `chain` are those that the client sent with it.
    Raises tls.Alert that says what is wrong.
    """
    try:
        given = [crypto.X509.from_cryptography(one) for one in (certificate, *chain)]
        crypto.X509StoreContext(store, given[0], given[1:]).verify_certificate()
    except crypto.X509StoreContextError as error:
        raise _refusal(error) from None
    except _UNREADABLE:
        raise alert(Alert.BAD_CERTIFICATE, "the certificate cannot be read") from None
    if not _of_a_client(certificate):
        raise alert(Alert.UNSUPPORTED_CERTIFICATE, "the certificate is not one of a client: extended key usage")


def alert(description: Alert, words: str) -> tls.Alert:
    """An alert that ends the handshake; the peer reads its number and the words."""
    made = tls.Alert(words)
    made.description = description  # type: ignore[assignment]  # aioquic knows no 116 (certificate_required)
    return made


def _refusal(error: crypto.X509StoreContextError) -> tls.Alert:
    number = error.errors[0]
    if number in (_EXPIRED, _NOT_YET_VALID):
        return alert(Alert.CERTIFICATE_EXPIRED, str(error))
    if number in _UNKNOWN_ISSUER:
        return alert(Alert.UNKNOWN_CA, f"the certificate is of no CA that is trusted here: {error}")
    return alert(Alert.BAD_CERTIFICATE, str(error))


def _of_a_client(certificate: x509.Certificate) -> bool:
    """As OpenSSL judges a client: what an extension does not allow is refused; without the extension all is allowed."""
    try:
        extensions = certificate.extensions
        usage = _extension(extensions, x509.ExtendedKeyUsage)
        key = _extension(extensions, x509.KeyUsage)
    except ValueError:
        raise alert(Alert.BAD_CERTIFICATE, "the certificate's extensions cannot be read") from None
    return (usage is None or ExtendedKeyUsageOID.CLIENT_AUTH in usage) and (key is None or key.digital_signature)


def _extension(extensions: x509.Extensions, kind: type[E]) -> E | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
