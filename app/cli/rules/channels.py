"""`iot-stream channels`: where alerts of users go beside MQTT. No output has a URL, as URLs have passwords in them."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from getpass import getpass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from app.cli.data.local_target import settings_of
from app.cli.options import Directory
from app.core.model.alert_event import Severity
from app.core.model.identity import bad_character
from app.errors import PermanentError
from app.notify.channels.channel import Channel, read_channels
from app.postgres.connect import Connection, operator_session
from app.postgres.queries.user_channels import all_channels, channels_of, put_channels
from app.settings import Settings

T = TypeVar("T")
channels = typer.Typer(no_args_is_help=True)
User = Annotated[str, typer.Argument(help="The user whose alerts they are; '*': all users.")]
Number = Annotated[int, typer.Argument(min=1, help="The channel's number, as ls shows it.")]
Local = Annotated[bool, typer.Option("--local", help="Of the stack `iot-stream up` has started.")]


@channels.callback()
def group() -> None:
    """Channels of users: e-mail, chats and pagers, by way of apprise. A notifier knows a change in 5 s."""


@channels.command("ls")
def show(
    user: Annotated[str | None, typer.Option("--user", help="Of this user alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
    local: Local = False,
    directory: Directory = None,
) -> None:
    """Each channel: its user, number, scheme, least severity and devices. Never its URL.

    Example: iot-stream channels ls --user alice
    """
    found = [one for one in _asked(settings_of(local, directory), all_channels) if user in (None, one.user_id)]
    rows = [row for one in sorted(found) for row in _rows(one.user_id, one.channels)]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            f"{row['user_id']:<24} {row['number']:<3} {row['url']:<16} {row['severity']:<9} {' '.join(row['devices'])}"
        )


@channels.command()
def add(
    user: User,
    severity: Annotated[Severity, typer.Option(help="Alerts of this severity and worse ones.")] = Severity.INFO,
    device: Annotated[list[str] | None, typer.Option(help="A device id or glob; repeatable. Default: all.")] = None,
    url_file: Annotated[
        str | None, typer.Option(help="File that holds the URL, `-` for standard input. Default: a prompt.")
    ] = None,
    local: Local = False,
    directory: Directory = None,
) -> None:
    """Send the alerts of a user to one more service, from now on.

    Example: echo ntfys://ntfy.example.com/alice | iot-stream channels add alice --severity critical --url-file -
    """
    if not user or any(char in user for char in "/+#\0") or bad_character(user):
        raise typer.BadParameter(f"{user!r} is no user: the id is one level of an MQTT topic", param_hint="user")
    made = Channel(_url(url_file), severity, tuple(device or ["*"]))
    if "://" not in made.url or not made.scheme or not made.url.isprintable():
        raise typer.BadParameter("give a URL of apprise, as mailtos://... or ntfys://...", param_hint="--url-file")
    settings = settings_of(local, directory)
    number = len(_edited(settings, user, lambda had: [*had, made]))
    print(f"channel {number} of {user}: {_masked(made)}")
    if made.scheme not in settings.channel_schemes:
        cure = "a notifier sends nothing there until IOT_CHANNEL_SCHEMES has its scheme"
        typer.echo(f"the scheme {made.scheme!r} is not in IOT_CHANNEL_SCHEMES here: {cure}", err=True)


@channels.command("rm")
def remove(user: User, number: Number, local: Local = False, directory: Directory = None) -> None:
    """Send no more alerts to a channel; the numbers of those behind it become one less.

    Example: iot-stream channels rm alice 1
    """

    def without(had: list[Channel]) -> list[Channel]:
        _numbered(had, user, number)
        return had[: number - 1] + had[number:]

    _edited(settings_of(local, directory), user, without)
    print(f"removed channel {number} of {user}")


@channels.command("test")
def try_out(user: User, number: Number, local: Local = False, directory: Directory = None) -> None:
    """Send one message to a channel, from this machine and by its settings, and say whether the service takes it.

    Example: iot-stream channels test alice 1
    """
    from app.cli.programs.notifier import channel_client

    settings = settings_of(local, directory)
    channel = _numbered(_asked(settings, lambda table: _stored(table, user)), user, number)
    client = channel_client(settings)
    if client is None:
        raise PermanentError(f"IOT_CHANNEL_SCHEMES is empty, so nothing is sent: set it to {channel.scheme}")
    try:
        asyncio.run(client.send(channel, "iot-stream: a message to try this channel", f"for alerts of {user}", "info"))
    finally:
        client.close()
    print(f"the service of channel {number} of {user} has taken a message")


def _url(file: str | None) -> str:
    if file is None:
        return getpass("URL: ").strip()
    try:
        return (sys.stdin.read() if file == "-" else Path(file).read_text()).strip()
    except UnicodeDecodeError:
        raise typer.BadParameter("what it holds is no text", param_hint="--url-file") from None


def _masked(channel: Channel) -> str:
    return f"{channel.scheme}://***"  # in many schemes what looks like the host is a token


def _rows(user_id: str, text: str) -> list[dict[str, Any]]:
    return [
        {"user_id": user_id, "number": n, "url": _masked(one), "severity": one.severity, "devices": list(one.devices)}
        for n, one in enumerate(_read(user_id, text), 1)
    ]


def _read(user_id: str, text: str) -> list[Channel]:
    try:
        return read_channels(text)
    except ValueError as error:
        raise PermanentError(f"user_channels of {user_id}: {error}; mend the row by hand") from None


def _numbered(had: list[Channel], user: str, number: int) -> Channel:
    if number > len(had):
        raise PermanentError(f"{user} has no channel {number}, but {len(had)}: see iot-stream channels ls")
    return had[number - 1]


async def _stored(table: Connection, user: str) -> list[Channel]:
    return _read(user, next((one.channels for one in await all_channels(table) if one.user_id == user), "[]"))


def _edited(settings: Settings, user: str, edit: Callable[[list[Channel]], list[Channel]]) -> list[Channel]:
    """The channels of a user after the edit, which no other edit comes between."""

    async def change(table: Connection) -> list[Channel]:
        edited = edit(_read(user, await channels_of(table, user)))
        text = msgspec.json.encode(edited).decode()
        _read(user, text)  # there may be too many
        await put_channels(table, user, text)
        return edited

    return _asked(settings, change)


def _asked(settings: Settings, question: Callable[[Connection], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with operator_session(settings, "channels") as connection, connection.transaction():
            return await question(connection)

    return asyncio.run(ask())
