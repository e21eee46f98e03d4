"""The URL of a Redis server: its text in; its parts out, or ValueError that quotes no part of the URL."""

import re
from typing import Annotated, NamedTuple
from urllib.parse import unquote

from pydantic import AfterValidator, SecretStr

from app.runtime.addresses import ENCODE, HostPort, address, login

RIGHT = "give redis://host:6379/0, rediss://account:password@host:6379/0 or unix:///run/redis.sock"
PORT = 6379
_SCHEME = re.compile(r"(redis|rediss|unix)://", re.IGNORECASE)


class RedisAddress(NamedTuple):
    """Address, account and database of a server: either `host` with its port, or `socket`, a local path."""

    host: HostPort | None
    socket: str
    tls: bool
    account: str  # empty: the account `default`
    password: str  # empty: none
    database: int

    def __str__(self) -> str:
        """host:port or the path, for log messages: without account and password."""
        return str(self.host) if self.host else self.socket


def parsed(text: str) -> RedisAddress:
    """The parts of a URL. Raises ValueError with the correct form for another scheme, a character that has to be
    percent-encoded, an invalid host, port or database, and for parameters, which are settings here.
    """
    url = text.strip()
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise ValueError(f"this is no URL of Redis: {RIGHT}")
    rest = url[scheme.end() :]
    if "#" in rest or re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise ValueError(ENCODE)
    if "?" in rest:
        raise ValueError(f"it takes no parameters, and a ? in a password is %3F: {RIGHT}")
    if scheme[1].lower() == "unix":
        return RedisAddress(None, _path(rest), False, "", "", 0)
    authority, _, database = rest.partition("/")
    account, at, where = authority.rpartition("@")
    if "@" in database:
        raise ValueError(ENCODE)
    if database and not re.fullmatch(r"[0-9]{1,4}", database):
        raise ValueError(f"the database is a number, and a / in a password is %2F: {RIGHT}")
    user, _, password = login(account).partition(":") if at else ("", "", "")
    tls = scheme[1].lower() == "rediss"
    return RedisAddress(address(where, PORT), "", tls, unquote(user), unquote(password), int(database or 0))


def _path(rest: str) -> str:
    if not rest.startswith("/") or "@" in rest:
        raise ValueError(f"a socket has a path and no account: {RIGHT}")
    return unquote(rest)


def _checked(url: SecretStr | None) -> SecretStr | None:
    if url is not None:
        parsed(url.get_secret_value())
    return url


RedisUrl = Annotated[SecretStr | None, AfterValidator(_checked)]
