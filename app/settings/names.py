"""The names of settings: which names there are, and which names that somebody has set are no settings."""

import os
import sys
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from app.settings.sources import ENV_FILE, env_names, is_service_link, toml_content, toml_file


class Other(NamedTuple):
    """A variable that is read outside the settings."""

    default: str  # as docs/settings.md shows it; empty: none
    meaning: str  # in Markdown


# docs/settings.md shows these; `make docs` writes them there.
OTHERS: Mapping[str, Other] = {
    "IOT_SETTINGS_FILE": Other("`iot-stream.toml`", "the TOML file"),
    "IOT_LOCAL_DIR": Other("`.local`", "where the local stack keeps data, logs and `stack.env`"),
    "IOT_CACHE_DIR": Other(
        "`.local` of the checkout, else `~/.cache/iot-stream`",
        "for Kafka's jars, and what makes Kafka start fast",
    ),
    "IOT_VERSION": Other("", "in `.env` for compose: the tag of the image"),
    "IOT_FAULTS": Other("", "`full`: the fault tests kill more often"),
}
TESTS = "IOT_TEST_"  # servers of the project's own tests

# Names that other programs use. They are reported only while the setting of ours is not given.
_SERVERS = ("kafka_", "database_", "mqtt_", "webhook_")
_ALIASES = {
    "KAFKA_BROKERS": "kafka_broker",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka_broker",
    "MQTT_BROKER": "mqtt_host",
    "POSTGRES_URL": "database_url",
}
_OF_COMPOSE = ("MQTT_PORT", "KAFKA_PORT")  # in .env: the ports compose opens on this machine, see .env.example


def variables(fields: Iterable[str]) -> set[str]:
    """The names of all variables that may be set, in upper case, given the `fields` of the settings."""
    return {*(f"IOT_{name.upper()}" for name in fields), *OTHERS}


def strangers(fields: Collection[str]) -> list[str]:
    """A line for each name in the environment, `.env` and the TOML file that looks like a setting and is none, with the
    nearest name of a setting; variables that Kubernetes sets for services are left out.

    `fields` are those of the settings. Raises SettingsError when `.env` or the TOML file cannot be read.
    """
    known, environment = variables(fields), dict(os.environ)
    lines = [
        _line(name, known)
        for name, value in sorted(environment.items())
        if _is_stranger(name, known) and not is_service_link(name, value, environment)
    ]
    lines += [f"{_line(name, known)} ({ENV_FILE})" for name in env_names() if _is_stranger(name, known)]
    for name, value in sorted(toml_content().items()):
        if name not in fields:
            lines.append(f"{_toml_line(name, value, fields)} ({toml_file()})")
    return lines


def bare(
    environment: Iterable[str], env_file: Iterable[str], given: Collection[str], fields: Iterable[str]
) -> list[str]:
    """A line for each variable that names a server in other programs' words, while its setting is not `given`.

    `environment` and `env_file` are names of variables; `given` and `fields` are fields of the settings, those that are
    set and all of them.
    """
    ours = {name.upper(): name for name in fields if name.startswith(_SERVERS)} | _ALIASES
    found = dict.fromkeys([*environment, *(name for name in env_file if name not in _OF_COMPOSE)])
    return [
        f"{name} is set and not read: iot-stream reads IOT_{ours[name].upper()}"
        for name in found
        if name in ours and not {ours[name], f"{ours[name]}_file"} & set(given)
    ]


@lru_cache
def _warn(line: str) -> None:
    print(f"iot-stream: warning: {line}", file=sys.stderr)  # noqa: T201 - before there is a log


def warn_of_bare(given: Collection[str], fields: Iterable[str]) -> None:
    """Write what `bare` finds in the environment and in `.env` to standard error, each line once a process.

    Raises SettingsError when `.env` cannot be read.
    """
    for line in bare(os.environ, env_names(), given, fields):
        _warn(line)


def _is_stranger(name: str, known: Collection[str]) -> bool:
    upper = name.upper()
    return upper.startswith("IOT_") and upper not in known and not upper.startswith(TESTS)


def _line(name: str, known: Collection[str]) -> str:
    return f"{name}: no setting has this name{_nearest([name.upper()], known)}"


def _toml_line(name: str, value: object, fields: Collection[str]) -> str:
    """A table is no setting; `[database] url` most likely means database_url."""
    inner = [f"{name}_{key}".lower() for key in value] if isinstance(value, dict) else []
    found = [one for one in inner if one in fields]
    if found:
        return f"{name}: no setting has this name; did you mean {', '.join(found)}, without a table?"
    return f"{name}: no setting has this name{_nearest([name.lower().removeprefix('iot_')], fields)}"


def _nearest(names: list[str], known: Collection[str]) -> str:
    found = [near for name in names for near in get_close_matches(name, known, 1, 0.7)]
    return f"; did you mean {found[0]}?" if found else "; docs/settings.md has them all"
