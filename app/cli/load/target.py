"""Where `iot-stream load` sends: its options, the settings and the local stack in; broker and database out."""

import os
import resource
import ssl
from pathlib import Path
from typing import NamedTuple

import typer
from pydantic import SecretStr

from app.core.routing.mqtt_acl import name_fault
from app.errors import PermanentError
from app.loadtest.connection import LoadBroker
from app.local.layout import Layout, default_root, parse_env
from app.local.session import supervisor_pid
from app.runtime import addresses, tls
from app.runtime.database_url import normal
from app.settings import Settings
from app.settings import load as read_settings

TLS_PORT = 8883
SPARE_FILES = 64  # beside the connections


class LoadTls(NamedTuple):
    """The options of TLS."""

    on: bool
    ca: Path | None
    certificate: Path | None
    key: Path | None


class AccountOptions(NamedTuple):
    """The options of the account."""

    username: str | None
    password_file: Path | None
    user: str | None  # whose devices all are


class LoadTarget(NamedTuple):
    """The servers of a run."""

    settings: Settings
    broker: LoadBroker
    user: str | None  # an existing user, whose devices all are
    accounts: bool  # each user gets an account in the database
    database: Settings | None


def target(
    where: tuple[str | None, int | None],
    who: AccountOptions,
    files: LoadTls,
    database_url: str | None,
    directory: Path | None,
) -> LoadTarget:
    """The servers that options name, else those of the settings, else those of the local stack in `directory`.

    `where`: host and port of the broker. Raises BadParameter that names the option, SettingsError.
    """
    host, port = where
    if host is None and "IOT_MQTT_HOST" not in os.environ:
        _use_local_stack(Layout(directory or default_root()))
    settings = read_settings()
    database = _database(settings, database_url)
    username, password = _account(who, settings, own=database_url is not None)
    encrypted = files.on or (settings.mqtt_tls and host is None)
    broker = LoadBroker(
        _host(host) if host is not None else settings.mqtt_host,
        port or (TLS_PORT if files.on else settings.mqtt_port if host is None else 1883),
        username,
        password,
        _tls(files, settings) if encrypted else None,
    )
    if who.user is not None and username is None:
        raise typer.BadParameter("needs --username: an account that may publish for this user", param_hint="--user")
    return LoadTarget(settings, broker, who.user, username is None and database is not None, database)


def open_files(connections: int) -> None:
    """Raise this process's limit of open files as far as is needed. Raises PermanentError when it may not go so far."""
    wanted = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise PermanentError(
            f"{connections:,} connections need {wanted:,} open files, and {hard:,} are allowed: ulimit -n"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _use_local_stack(layout: Layout) -> None:
    """Let a stack that runs here be the settings; what the environment names counts first."""
    if supervisor_pid(layout) is not None and layout.env.exists():
        own = parse_env(layout.env.read_text())
        os.environ |= {name: value for name, value in own.items() if name.startswith("IOT_")} | os.environ


def _database(settings: Settings, url: str | None) -> Settings | None:
    if url is None:
        return settings if "database_url" in settings.model_fields_set else None
    try:
        return settings.model_copy(update={"database_url": SecretStr(normal(url)), "database_password_file": None})
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--database-url") from None


def _account(who: AccountOptions, settings: Settings, own: bool) -> tuple[str | None, str | None]:
    """The account of all devices; `own`: of the settings' account nothing is used, as users get their own."""
    if who.user is not None and (fault := name_fault(who.user)):
        raise typer.BadParameter(f"{who.user!r} cannot be a user: {fault}", param_hint="--user")
    if who.username is None and who.password_file is not None:
        raise typer.BadParameter("needs --username", param_hint="--password-file")
    if who.username is not None:
        return who.username, _password(who.password_file) if who.password_file else None
    if own or settings.mqtt_username is None:
        return None, None
    try:
        return settings.mqtt_username, settings.mqtt_secret
    except (OSError, ValueError) as error:
        raise PermanentError(f"cannot read the password of IOT_MQTT_PASSWORD_FILE: {error}") from error


def _password(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").removeprefix("\ufeff").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {file}: {error}", param_hint="--password-file") from None


def _host(text: str) -> str:
    try:
        return addresses.host(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--host") from None


def _tls(files: LoadTls, settings: Settings) -> ssl.SSLContext:
    ca, certificate = files.ca or settings.mqtt_ca_file, files.certificate or settings.mqtt_certificate_file
    try:
        return tls.context(ca, certificate, files.key or settings.mqtt_key_file)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tls") from None
