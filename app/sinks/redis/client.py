"""One Redis server: scripts in, their results or translated errors out; with its own TLS context, not the library's."""

import ssl
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from hiredis import pack_command
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, RedisError

from app.runtime import tls
from app.settings.sinks.redis import RedisSettings
from app.settings.sinks.redis_url import RedisAddress, parsed
from app.sinks.port import SinkMisconfigured, SinkUnavailable
from app.sinks.redis.failures import is_cluster, unavailable, words
from app.sinks.redis.scripts import LAST_VALUES

_CHECKED = ("check:1", "check:2")  # keys that are only read; of different slots in a cluster


class TrustingConnection(SSLConnection):
    """A connection with a given TLS context: the library's context trusts the system's CAs beside the configured CA."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context


class RedisClient:
    """Runs scripts on the configured server."""

    def __init__(self, settings: RedisSettings) -> None:
        """Raises SinkMisconfigured for settings that contradict each other. Connects to nothing."""
        if settings.redis_url is None:
            raise SinkMisconfigured("IOT_REDIS_URL is not set: give the URL of the server, redis://host:6379/0")
        self._settings = settings
        self._address = parsed(settings.redis_url.get_secret_value())
        self._context = _context(settings, self._address)
        self._connection: Any = None  # a Connection; parts of the library have no types

    @property
    def where(self) -> str:
        """The server for log messages, without account."""
        return str(self._address)

    async def check(self) -> None:
        """Return when the account may run scripts on keys with the prefix. Raises SinkUnavailable, and
        SinkMisconfigured when the server refuses the account, or is a cluster.
        """
        keys = [f"{self._settings.redis_prefix}{name}".encode() for name in _CHECKED]
        try:
            await self._evaluate(LAST_VALUES, keys, [b"0", b"0"])
        except (AuthenticationError, NoPermissionError) as error:
            await self.close()
            raise SinkMisconfigured(f"{self.where} refuses: {words(error)}") from None
        except (RedisError, OSError, TimeoutError) as error:
            if is_cluster(error):
                raise SinkMisconfigured(
                    f"IOT_REDIS_URL: {self.where} is a Redis Cluster, whose nodes take no script over all keys"
                ) from None
            if "DB index" in str(error):
                raise SinkMisconfigured(f"IOT_REDIS_URL: {self.where} says: {words(error)}") from None
            raise unavailable(error, self.where) from None

    async def run(self, script: str, keys: Sequence[bytes], arguments: Sequence[bytes]) -> dict[int, str]:
        """Run a script of scripts.py. Returns {index of a value or stream, from 0: why it is refused}. Raises
        SinkUnavailable.
        """
        try:
            said = await self._evaluate(script, keys, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            if isinstance(error, AuthenticationError):
                await self.close()  # the next call reads the file of the password again
            raise unavailable(error, self.where) from error
        return {number - 1: why.decode("utf-8", "replace") for number, why in zip(said[::2], said[1::2], strict=True)}

    async def _evaluate(self, script: str, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        digest = sha1(script.encode(), usedforsecurity=False).hexdigest().encode()
        try:
            return await self._ask(b"EVALSHA", digest, len(keys), *keys, *arguments)
        except NoScriptError:  # the server was restarted
            return await self._ask(b"EVAL", script.encode(), len(keys), *keys, *arguments)

    async def _ask(self, *command: bytes | int) -> Any:
        """Send one command and return its answer. Packed by hiredis, as the library's packing in Python takes most of
        the time of a call.
        """
        connection = self._connection = self._connection or self._made()
        await connection.send_packed_command(pack_command(command))  # type: ignore[arg-type]  # of any length
        return await connection.read_response()  # a cancelled read closes the connection, so no answer stays unread

    def _made(self) -> Any:
        at, seconds = self._address, self._settings.redis_timeout
        try:
            secret = self._settings.redis_secret
        except (OSError, ValueError):
            raise SinkUnavailable("the file of IOT_REDIS_PASSWORD_FILE cannot be read") from None
        options: dict[str, Any] = {
            "username": at.account or None,
            "password": secret or at.password or None,
            "db": at.database,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "retry": Retry(NoBackoff(), 0),  # the runner retries
        }
        if at.host is None:
            return UnixDomainSocketConnection(path=at.socket, **options)
        options |= {"host": at.host.host, "port": at.host.port}
        if self._context is not None:
            return TrustingConnection(context=self._context, **options)
        return Connection(**options)

    async def close(self) -> None:
        """Close the connection; safe before the first call."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.disconnect(nowait=True)
            except (RedisError, OSError):
                return  # already closed


def _context(settings: RedisSettings, address: RedisAddress) -> ssl.SSLContext | None:
    """The context of rediss; None for a server without TLS."""
    ca, certificate, key = settings.redis_ca_file, settings.redis_certificate_file, settings.redis_key_file
    if address.tls:
        try:
            return tls.context(ca, certificate, key)
        except ValueError as error:
            raise SinkMisconfigured(f"the files of IOT_REDIS_CA_FILE, _CERTIFICATE_FILE, _KEY_FILE: {error}") from None
    for name, path in (("CA", ca), ("CERTIFICATE", certificate)):
        if path is not None:
            raise SinkMisconfigured(f"IOT_REDIS_{name}_FILE: nothing is encrypted, IOT_REDIS_URL has no rediss:")
    return None
