"""The URL of a database: in, as somebody wrote the URL; out, a URL that asyncpg cannot misread, or ValueError.

asyncpg splits a URL at the first sign that ends a part: of a password with such a sign, the rest is then taken for a
port, a path or a parameter, and quoted in the error. So the whole URL is checked here first, and no part is quoted.
"""

import re
from pathlib import Path
from urllib.parse import unquote

from app.runtime.addresses import ENCODE, address, items, login, port

RIGHT = "give postgresql://account@host:5432/database"
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
}
_FILES = ("sslrootcert", "sslcert", "sslkey")
# Where an @ may well be meant; elsewhere the @ belongs to a password that was taken apart.
_WITH_AT = ("user", "password", "dbname", "database", "options", "application_name")


def normal(text: str) -> str:
    """The same URL, its scheme postgresql, its account and password percent-encoded throughout, without empty hosts.

    Raises ValueError that says what would be right: for a sign that has to be encoded, another scheme or driver, a
    wrong host, port or parameter, and for a file of sslrootcert, sslcert or sslkey that is not there.
    """
    url = text.strip()
    rest = _without_scheme(url)
    if "#" in rest or re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise ValueError(ENCODE)
    before, mark, query = rest.partition("?")
    authority, slash, database = before.partition("/")
    account, at, hosts = authority.rpartition("@")
    if "@" in database or (not at and _at_out_of_place(query)) or "?" in query:
        raise ValueError(ENCODE)
    made = f"{login(account)}@" if at else ""
    if "/" in database or re.search(r"%(?![0-9A-Fa-f]{2})", database + query):
        raise ValueError(f"{RIGHT}; a / in a name is %2F, a % is %25")
    parameters = _parameters(query)
    made += _hosts(hosts)
    _check(parameters, len(items(hosts)))
    return f"postgresql://{made}{slash}{database}{mark}{query}"


def _without_scheme(url: str) -> str:
    found = re.match(r"postgres(?:ql)?://", url, re.IGNORECASE)
    if found:
        return url[found.end() :]
    if re.match(r"postgres(ql)?\+\w+://", url, re.IGNORECASE):
        raise ValueError(f"leave the driver's name out of the scheme: {RIGHT}")
    raise ValueError(f"this is no URL of PostgreSQL: {RIGHT}")


def _at_out_of_place(query: str) -> bool:
    """Without an account before the host, an @ in the parameters is the rest of an account."""
    return any("@" in item and item.partition("=")[0] not in _WITH_AT for item in query.split("&"))


def _parameters(query: str) -> dict[str, str]:
    found = {}
    for item in filter(None, query.split("&")):
        name, equals, value = item.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            raise ValueError(f"what follows the ? is name=value, with & between; else {ENCODE}")
        found[name] = unquote(value)
    return found


def _hosts(hosts: str) -> str:
    """Each of them is a host with a port or without; empty items are left out."""
    found = []
    for item in items(hosts):
        if not unquote(item).startswith("/"):  # the directory of a UNIX socket
            try:
                address(unquote(item), 5432)
            except ValueError as error:
                raise ValueError(f"host: {error}; {RIGHT}; else {ENCODE}") from None
        found.append(item)
    if hosts and not found:
        raise ValueError(RIGHT)
    return ",".join(found)


def _check(parameters: dict[str, str], hosts: int) -> None:
    for name, allowed in _CHOICES.items():
        if name in parameters and parameters[name] not in allowed:
            raise ValueError(f"its {name} is one of {', '.join(allowed)}")
    for name in _FILES:
        if name in parameters and not Path(parameters[name]).is_file():
            raise ValueError(f"there is no file that its {name} names")
    named = 0
    for item in items(parameters.get("host", "")):
        named += 1
        if not item.startswith("/"):
            address(item, 5432)
    ports = [port(item) for item in items(parameters.get("port", ""))]
    if len(ports) > 1 and len(ports) != (hosts or named):
        raise ValueError("it has not as many ports as hosts")
