"""The certificate of the gateway and the CA of its clients: in, their files; out, what gRPC shows and asks for.

The files are looked at before each handshake, so that a renewed certificate needs no restart.
"""

from contextlib import suppress
from pathlib import Path

import grpc

from app.runtime.renewed_tls import RenewedTls, TlsFiles


class ServedCertificate:
    """The certificate of one server."""

    def __init__(self, certificate: Path, key: Path | None, clients_ca: Path | None) -> None:
        """`key` None: it is in the file of the certificate. With `clients_ca` nobody comes in without a certificate
        that it has signed. Raises ValueError that names the file, and OSError.
        """
        self._files = TlsFiles(certificate, key, clients_ca)
        self._tls = RenewedTls(self._files)  # says what is wrong with them, which gRPC does not
        self._shown = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials for a port of gRPC's server."""
        asks = self._files.clients_ca is not None
        return grpc.dynamic_ssl_server_credentials(self._shown, self._newest, require_client_authentication=asks)

    def _newest(self) -> grpc.ServerCertificateConfiguration:
        """Called by gRPC's threads; while the files cannot be used, what could be used last."""
        if self._tls.look():
            with suppress(OSError):  # it has changed again, and is looked at again
                self._shown = self._read()
        return self._shown

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, clients_ca = self._files
        pair = (key or certificate).read_bytes(), certificate.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], clients_ca.read_bytes() if clients_ca else None)
