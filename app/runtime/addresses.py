"""Addresses as people write them: text in; out, the one form every client takes, or ValueError.

What a ValueError says is shown to people and kept in logs: a ValueError names what would be right and quotes nothing of
the text, which may hold a password.
"""

import ipaddress
import re
import socket
from typing import NamedTuple
from urllib.parse import quote, unquote

ENCODE = (
    "percent-encode the account and the password: # is %23, / is %2F, ? is %3F, @ is %40, : is %3A, [ is %5B, "
    "] is %5D, % is %25, a blank is %20"
)
_BROKERS = "give host:port[,host:port], an IPv6 address as [::1]:9092"
_HOST = "give a host name or an IP address"
_WEB = "give a URL such as https://alerts.example.com/hook"
UNIX = "unix:"
NO_PORT = 0
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class HostPort(NamedTuple):
    """Where a server is: a host name or an IP address without brackets, and a port from 1 to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        """host:port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def host(text: str) -> str:
    """The host name or IP address in `text`; an IPv6 address may stand in brackets, and is returned without them, in
    its short form. Raises ValueError for a scheme, a port, or what is neither name nor address.
    """
    name = text.strip()
    if "://" in name:
        raise ValueError(f"{_HOST} alone, without a scheme")
    if name.startswith("[") and name.endswith("]"):
        return _ipv6(name[1:-1])
    if name.count(":") > 1:
        return _ipv6(name)
    if ":" in name:
        raise ValueError(f"{_HOST} alone, the port has a setting of its own")
    return _name(name)


def is_loopback(name: str) -> bool:
    """Whether only this machine reaches a listener on this host name or address (without brackets).

    Names are not looked up: every name but localhost counts as reached from outside.
    """
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def port(text: str) -> int:
    """The port that `text` gives in decimal digits. Raises ValueError unless it is from 1 to 65535."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


def address(text: str, default: int) -> HostPort:
    """`host:port`, or a host alone, whose port is then `default`; an IPv6 address stands in brackets.

    Raises ValueError for any other text.
    """
    if text.startswith("["):
        name, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address stands in brackets, as [::1]:9092")
        return HostPort(_ipv6(name), port(rest[1:]) if rest else default)
    if text.count(":") > 1:
        raise ValueError("an IPv6 address stands in brackets, as [::1]:9092")
    name, colon, digits = text.partition(":")
    return HostPort(_name(name), port(digits) if colon else default)


def of_grpc(text: str) -> HostPort | None:
    """Where a server of gRPC listens: None for a UNIX socket, `unix:///path`. Raises ValueError for what is neither
    that nor host:port.
    """
    if text.startswith(UNIX):
        if not text.removeprefix(UNIX).strip("/"):
            raise ValueError("it names no socket; give unix:///path")
        return None
    try:
        where = address(text, NO_PORT)
    except ValueError as error:
        raise ValueError(f"{error}; give host:port or unix:///path") from None
    if where.port == NO_PORT:
        raise ValueError("it names no port; give host:port or unix:///path")
    return where


def brokers(text: str) -> str:
    """Kafka's bootstrap servers as `host:port[,host:port]`, in their order; empty items are left out, and a broker
    without a port has 9092. Raises ValueError that gives the number of the wrong broker, counted from 1.
    """
    if "://" in text:
        raise ValueError(f"{_BROKERS}, without a scheme: IOT_KAFKA_SECURITY_PROTOCOL says how they are spoken to")
    found = []
    for number, item in enumerate(items(text), 1):
        try:
            found.append(str(address(item, 9092)))
        except ValueError as error:
            raise ValueError(f"broker {number}: {error}; {_BROKERS}") from None
    if not found:
        raise ValueError(_BROKERS)
    return ",".join(found)


def items(text: str) -> list[str]:
    """The items of a list with commas, without blanks around them; empty items are left out."""
    return [item for item in map(str.strip, text.split(",")) if item]


def web(text: str) -> str:
    """The URL of HTTP or HTTPS in `text`, without blanks around it and otherwise unchanged.

    Raises ValueError for another scheme, a blank or control character within, an account that is not percent-encoded,
    or a wrong host or port.
    """
    url = text.strip()
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("http", "https") or re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise ValueError(_WEB)
    account, at, where = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    try:
        if at:
            login(account)
        address(where, 443)
    except ValueError as error:
        raise ValueError(f"{_WEB}: {error}") from None
    return url


def login(text: str) -> str:
    """`account` or `account:password` of a URL, both percent-encoded throughout: what is encoded stays as it is.

    Raises ValueError for a bare @, [ or ], a % that begins no escape, bytes that are not UTF-8, and NUL.
    """
    if "@" in text or "[" in text or "]" in text or _BAD_ESCAPE.search(text):
        raise ValueError(ENCODE)
    account, colon, password = text.partition(":")
    return "".join([_encoded(account), colon, _encoded(password)])


def _encoded(text: str) -> str:
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("percent-encode the account and the password as UTF-8") from None
    if "\0" in plain:
        raise ValueError("an account or password holds no NUL")
    return quote(plain, safe="")


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("what has more than one colon, or stands in brackets, is an IPv6 address") from None


def _name(text: str) -> str:
    """A host name or an IPv4 address."""
    if not re.fullmatch(r"[\w.-]+", text):
        raise ValueError(_HOST)
    try:
        if re.fullmatch(r"[0-9.]+", text):
            socket.inet_aton(text)
        text.encode("idna")  # what every look-up does first
    except (OSError, UnicodeError):
        raise ValueError(f"{_HOST}; this is neither") from None
    return text
