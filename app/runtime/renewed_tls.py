"""TLS of a server whose files may be renewed: files in; a context out, and another context once the files change."""

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from app.runtime.tls import server_context

log = structlog.get_logger()

_Times = Sequence[tuple[int, int] | None]


class TlsFiles(NamedTuple):
    """The files of a server, in PEM, as the settings name them."""

    certificate: Path
    key: Path | None = None  # None: in the file of the certificate
    clients_ca: Path | None = None  # clients are asked for certificates of this CA


class RenewedTls:
    """The context of what listens; a connection keeps the context that it began with."""

    def __init__(self, files: TlsFiles, *, required: bool = True) -> None:
        """`required`: whether clients that are asked for a certificate (`clients_ca`) have to show one.

        Raises ValueError that names the file which cannot be used.
        """
        self._files, self._required = files, required
        self._read = self._times()
        self.context = self._made()

    def look(self) -> ssl.SSLContext | None:
        """The context of files that have changed since the last look; None: the files have not, or cannot be used yet
        (which is logged once a change). Never raises; reads files, so the call blocks for as long as the disk takes.
        """
        times = self._times()
        if times == self._read:
            return None
        self._read = times
        try:
            self.context = self._made()
        except ValueError as error:
            log.error(
                "certificate_not_renewed", error=str(error), note="the certificate that was read before is still shown"
            )
            return None
        log.info("certificate_renewed", file=str(self._files.certificate))
        return self.context

    def _made(self) -> ssl.SSLContext:
        return server_context(*self._files, required=self._required)

    def _times(self) -> _Times:
        return [None if path is None else _changed(path) for path in self._files]


def _changed(path: Path) -> tuple[int, int] | None:
    """Numbers that change once the file, or where a link leads, is another one; None: the file is not there now."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
