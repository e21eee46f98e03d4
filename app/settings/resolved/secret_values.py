"""Every secret that this process can know of: settings and environment in; out, a mask for text that leaves here.

Beside what is known by its place, the mask takes what looks like a secret: a password in a URL, a bearer token, the
value behind a name such as `password=`. Rather a word too many is masked than one too few.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from dotenv import dotenv_values
from pydantic import SecretStr

from app.settings.resolved.resolved import MASK
from app.settings.secret_files import read as read_secret
from app.settings.settings import Settings
from app.settings.sources import ENCODING, ENV_FILE, toml_content

LEAST = 4  # characters: a shorter one would mask half of every text
GUESSED = 6  # of a value that only its name makes a secret: `true` is none
_NAME = re.compile(r"PASS|PWD|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|HEADERS|DSN|URL|URI|ENDPOINT", re.IGNORECASE)
_PATH = re.compile(r"(_FILE|_DIR|_PATH|_SOCK)$", re.IGNORECASE)
_PATTERNS = (
    re.compile(r"(?<=://)([^\s/@:\"']*):([^\s/@\"']+)(?=@)"),
    re.compile(r"(?i)\b(bearer|basic) +([A-Za-z0-9._~+/=-]{6,})"),
    re.compile(r"(?i)\b([\w-]*(?:password|passwd|secret|token|api_?key))[\"']?\s*[:=]\s*[\"']?([^\s\"',;&}]{4,})"),
)


def mask(settings: Settings, more: Iterable[str] = ()) -> Callable[[str], str]:
    """A function that returns a text without secrets. `more`: secrets that no setting has. Reads the files that the
    settings name; one that cannot be read is left out.
    """
    found = {one for one in (*_of_settings(settings), *more) if len(one) >= LEAST}
    found |= {one for one in _of_environment() if len(one) >= GUESSED}
    written = {form for one in found for form in (one, json.dumps(one)[1:-1], quote(one, safe=""), unquote(one))}
    every = re.compile("|".join(map(re.escape, sorted(written, key=len, reverse=True)))) if written else None

    def masked(text: str) -> str:
        if every is not None:
            text = every.sub(MASK, text)
        text = _PATTERNS[0].sub(lambda one: f"{one[1]}:{MASK}", text)
        text = _PATTERNS[1].sub(lambda one: f"{one[1]} {MASK}", text)
        return _PATTERNS[2].sub(lambda one: one[0][: one.start(2) - one.start()] + MASK, text)

    return masked


def _of_settings(settings: Settings) -> Iterator[str]:
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield from _of_value(value.get_secret_value(), whole=not name.endswith("_url"))
        elif value is not None and name.endswith(("password_file", "secret_file", "token_file", "secret_key_file")):
            try:
                yield read_secret(value)
            except (OSError, ValueError):
                continue


def _of_environment() -> Iterator[str]:
    """Of the environment, `.env` and the TOML file, sinks' tables too: also names that no setting of ours has."""
    file = dotenv_values(ENV_FILE, encoding=ENCODING, interpolate=False) if os.path.isfile(ENV_FILE) else {}
    for name, value in (*os.environ.items(), *file.items(), *_leaves(toml_content())):
        if value and _NAME.search(name) and not _PATH.search(name):
            yield from _of_value(value, whole="://" not in value)
            if "HEADERS" in name.upper():
                yield from (part.partition("=")[2].strip() for part in value.split(","))


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        elif isinstance(value, str):
            yield name, value


def _of_value(value: str, whole: bool) -> Iterator[str]:
    """The value itself; of a URL its password, the values of its query, and long parts of its path, as tokens are."""
    if whole:
        yield value
    if "://" not in value:
        return
    account, _, rest = value.partition("://")[2].rpartition("@")
    if ":" in account:
        yield from {account.partition(":")[2], unquote(account.partition(":")[2])}
    parts = urlsplit(f"any://{rest}")
    yield from (one for _, one in parse_qsl(parts.query) if one not in _PARAMETERS)
    yield from (one for one in parts.path.split("/") if len(one) >= 20)


_PARAMETERS = ("require", "verify-ca", "verify-full", "prefer", "disable", "allow", "read-write", "primary", "any")
