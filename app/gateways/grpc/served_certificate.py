"""The certificate of the gateway and the CA of its clients: in, their files; out, what gRPC shows and asks for.

The files are looked at before each handshake, so that a renewed certificate needs no restart.
"""

from pathlib import Path

import grpc
import structlog

from app.gateways.grpc.refusal import NAME
from app.runtime import tls

log = structlog.get_logger()

_Stamp = tuple[tuple[int, int, int], ...]


class ServedCertificate:
    """One of a server."""

    def __init__(self, certificate: Path, key: Path | None, clients_ca: Path | None) -> None:
        """`key` None: it is in the file of the certificate. With `clients_ca` nobody comes in without a certificate
        that it has signed. Raises ValueError that names the file.
        """
        self._files = (certificate, key or certificate, clients_ca)
        self._key, self._clients_ca = key, clients_ca
        self._stamp = self._look()
        self._shown = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """For a port of gRPC's server."""
        asks = self._clients_ca is not None
        return grpc.dynamic_ssl_server_credentials(self._shown, self._newest, require_client_authentication=asks)

    def _newest(self) -> grpc.ServerCertificateConfiguration:
        """Called by gRPC's threads; while the files cannot be used, what could be used last."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp  # also of files that are wrong: said once
                self._shown = self._read()
                log.info("gateway_certificate_renewed", gateway=NAME, file=str(self._files[0]))
        except (ValueError, OSError) as error:
            cure = "the certificate as it was is shown until this is mended"
            log.error("gateway_certificate_unusable", gateway=NAME, error=str(error), cure=cure)
        return self._shown

    def _look(self) -> _Stamp:
        found = [file.stat() for file in self._files if file]
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, clients_ca = self._files
        tls.server_context(certificate, self._key, clients_ca)  # says what is wrong with them, which gRPC does not
        ca = clients_ca.read_bytes() if clients_ca else None
        return grpc.ssl_server_certificate_configuration([(key.read_bytes(), certificate.read_bytes())], ca)
