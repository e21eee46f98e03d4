"""The settings in force: environment, `.env` and TOML file in; out, each setting with its value and its source.

A secret is never in what comes out: a password is masked, and so is all of a URL in which a token may stand.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from dotenv import dotenv_values
from pydantic import SecretStr

from app.settings.settings import Settings, load
from app.settings.sources import ENCODING, ENV_FILE, env_names, is_link_of_a_port, toml_content, toml_file

MASK = "***"
DEFAULT, ENVIRONMENT = "default", "environment"
_SERVERS = ("database_url", "redis_url")  # whose paths are no secrets


class ResolvedSetting(NamedTuple):
    """One setting in force."""

    name: str  # of its variable, with IOT_
    value: Any  # of JSON; secrets masked
    source: str  # DEFAULT, ENVIRONMENT, .env, or the path of the TOML file
    meaning: str  # in Markdown


def resolved() -> list[ResolvedSetting]:
    """Every setting, in the order of docs/settings.md. Raises SettingsError as `load` does."""
    settings, sources = load(), _sources()
    found = []
    for name, field in Settings.model_fields.items():
        value, source = shown(name, getattr(settings, name)), sources.get(name, DEFAULT)
        found.append(ResolvedSetting(f"IOT_{name.upper()}", value, source, str(field.description)))
    return found


def shown(name: str, value: Any) -> Any:
    """The value of the setting `name` as JSON has it, without its secret."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return _masked(secret, name in _SERVERS) if name.endswith("_url") else MASK
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))


def _masked(url: str, with_path: bool) -> str:
    """A URL with its account and its host, without its password, and its path only `with_path`."""
    parts = urlsplit(url)
    account, at, where = parts.netloc.rpartition("@")
    name, colon, _ = account.partition(":")
    path = parts.path if with_path or parts.path in ("", "/") else f"/{MASK}"
    query = f"?{MASK}" if parts.query else ""
    return f"{parts.scheme}://{name}{colon}{MASK if colon else ''}{at}{where}{path}{query}"


def _sources() -> Mapping[str, str]:
    """Field -> where its value comes from, of every field that is set; the first source counts, as in Settings."""
    given = {
        _field(name): ENVIRONMENT for name, value in os.environ.items() if value and not is_link_of_a_port(name, value)
    }
    in_file = dotenv_values(ENV_FILE, encoding=ENCODING) if env_names() else {}
    of_file = {_field(name): ENV_FILE for name, value in in_file.items() if value}
    return {**dict.fromkeys(toml_content(), str(toml_file())), **of_file, **given}


def _field(variable: str) -> str:
    """The field of a variable; no field's name for a variable without IOT_."""
    lower = variable.lower()
    return lower.removeprefix("iot_") if lower.startswith("iot_") else f"${lower}"
