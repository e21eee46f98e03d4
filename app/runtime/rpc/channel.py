"""Where a server of gRPC is and who speaks to it -> a channel, and the metadata of each call."""

from pathlib import Path

import grpc
from grpc import aio
from msgspec import Struct

from app.errors import PermanentError
from app.runtime.addresses import is_loopback, of_grpc

MESSAGE_BYTES = 64 << 20  # of an answer, with a line for each refused item
RECONNECT_MS = 100, 5000  # gRPC's own pauses between connections; by default up to two minutes


class ClientCredentials(Struct, frozen=True):
    """Who sends, by token or certificate, and which CA is trusted. Files are PEM.

    The file of the token is read for each call, other files when the client is made.
    """

    token: str | None = None  # of a gateway, `iot-stream users token`
    token_file: Path | None = None
    ca_file: Path | None = None  # of the server's certificate; None: the system's
    certificate_file: Path | None = None  # of the client
    key_file: Path | None = None  # None: the key is in the file of the certificate
    server_name: str | None = None  # in the server's certificate, if it differs from the address
    tls: bool | None = None  # None: when a file is given that TLS alone uses

    def __repr__(self) -> str:
        """The credentials without the token, which may not be logged."""
        return f"{type(self).__name__}(token={'...' if self.token else None})"

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken: as `tls` says, else whether a CA or a certificate is given."""
        return bool(self.ca_file or self.certificate_file) if self.tls is None else self.tls

    def metadata(self) -> list[tuple[str, str]]:
        """The metadata of each call, empty without a token. Raises PermanentError when the file of the token cannot be
        read.
        """
        token = self.token
        if self.token_file is not None:
            token = _read(self.token_file).decode("utf-8-sig", "replace").strip()
        return [("authorization", f"Bearer {token}")] if token else []


def open_channel(target: str, credentials: ClientCredentials, server: str = "gateway") -> aio.Channel:
    """A channel to `unix:///path` or `host:port`, not yet connected; `server` is what errors call the other side.

    Raises PermanentError for what is no address, for files that cannot be read, and for a token that would cross a
    network readably.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS[0]),
        ("grpc.min_reconnect_backoff_ms", RECONNECT_MS[0]),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS[1]),
        ("grpc.use_local_subchannel_pool", 1),  # one client's failures are not another's
        ("grpc.enable_retries", 0),  # this client repeats calls, as it knows their order
    ]
    try:
        where = of_grpc(target)
    except ValueError as error:
        raise PermanentError(f"{target!r} is no {server}: {error}") from None
    if where is None:
        return aio.insecure_channel(target, options)
    loopback = is_loopback(where.host)
    if loopback:
        options.append(("grpc.enable_http_proxy", 0))
    if not credentials.encrypted:
        if not loopback and credentials.metadata():
            raise PermanentError(f"all on the way to {where} could read the token: give the CA file of the {server}")
        return aio.insecure_channel(str(where), options)
    if credentials.server_name:
        options.append(("grpc.ssl_target_name_override", credentials.server_name))
    certificate, key, ca = credentials.certificate_file, credentials.key_file, credentials.ca_file
    made = grpc.ssl_channel_credentials(
        _read(ca) if ca else None,
        _read(key or certificate) if certificate else None,
        _read(certificate) if certificate else None,
    )
    return aio.secure_channel(str(where), made, options)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PermanentError(f"cannot read {path}: {error.strerror}") from None
