"""Where settings come from: the environment, `.env` and a TOML file, as their readers want them."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from app.errors import SettingsError

ENV_FILE = ".env"
ENCODING = "utf-8-sig"  # editors of Windows put a byte order mark before the text

# Kubernetes sets these for each service of a namespace, under the service's name: of iot-worker
# IOT_WORKER_SERVICE_HOST, IOT_WORKER_PORT=tcp://10.0.0.1:9000 and so on. For iot-mqtt one has the name of a setting.
_LINK = re.compile(r"(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)$")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")


def is_service_link(name: str, value: str | None, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes, and no person, has set this variable, as it does for each service: by the name and `value`,
    or because `environment` has the host of the same service.
    """
    upper = name.upper()
    if _LINK.search(upper) or is_link_of_a_port(upper, value):
        return True
    return upper.endswith("_PORT") and f"{upper.removesuffix('_PORT')}_SERVICE_HOST" in environment


def is_link_of_a_port(name: str, value: str | None) -> bool:
    """Whether Kubernetes has set the variable `name` to the address of a service that has the name of a setting."""
    return name.upper().endswith("_PORT") and bool(_LINK_VALUE.fullmatch(value or ""))


class Environment(EnvSettingsSource):
    """The environment without the links of Kubernetes."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = super()._load_env_vars()
        return {name: value for name, value in found.items() if not is_link_of_a_port(name, value)}


class Toml(TomlConfigSettingsSource):
    """A TOML file, with a byte order mark or without."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return tomllib.loads(file_path.read_text(encoding=ENCODING))


def toml_file() -> Path:
    """The path of the TOML file: what $IOT_SETTINGS_FILE names, else iot-stream.toml in the working directory, which
    need not be there.
    """
    return Path(os.environ.get("IOT_SETTINGS_FILE") or "iot-stream.toml")


def env_names() -> list[str]:
    """The names in `.env` of the working directory, in its order; none without such a file.

    Raises SettingsError when the file cannot be read or is no UTF-8.
    """
    if not Path(ENV_FILE).is_file():
        return []
    try:
        return list(dotenv_values(ENV_FILE, encoding=ENCODING, interpolate=False))
    except UnicodeDecodeError:
        raise SettingsError(f"wrong settings:\n  {ENV_FILE} is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f"wrong settings:\n  {ENV_FILE} cannot be read: {error.strerror}") from None


def toml_content() -> dict[str, Any]:
    """The content of the TOML file; empty when there is none and none is named.

    Raises SettingsError when the file is named and not there, cannot be read, or is no TOML.
    """
    path = toml_file()
    if not path.is_file():
        if os.environ.get("IOT_SETTINGS_FILE"):
            raise SettingsError(f"wrong settings:\n  IOT_SETTINGS_FILE: no such file: {path}")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding=ENCODING))
    except UnicodeDecodeError:
        raise SettingsError(f"wrong settings:\n  {path} is not TOML: the file is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"wrong settings:\n  {path} is not TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"wrong settings:\n  {path} cannot be read: {error.strerror}") from None
