"""`iot-stream users`: the MQTT accounts of devices, in the database EMQX asks, and in the local stack's Mosquitto."""

import asyncio
import json
import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.data.local_target import local_stack
from app.cli.data.tokens import token
from app.cli.options import Directory
from app.cli.render.table import print_table
from app.core.routing.mqtt_acl import AclRule, name_fault, rule
from app.errors import PermanentError
from app.local.servers.mosquitto import Mosquitto
from app.postgres.queries.mqtt_accounts import MqttAccount, accounts, password_fault
from app.settings import Settings, load

users = typer.Typer(no_args_is_help=True)
users.add_typer(token, name="token", help="Bearer tokens of an account, for the gateways.")

Name = Annotated[
    str, typer.Argument(help="User name: the <user> of users/<user>/..., the <nodeId> of iot/<nodeId>/...")
]
ClientId = Annotated[
    str | None, typer.Option(help="The only client id that the account may use. Default: any safe id.")
]
Allow = Annotated[
    list[str] | None, typer.Option(help="One more topic filter: publish:TOPIC or subscribe:TOPIC; repeatable.")
]
User = Annotated[
    str | None, typer.Option(help="With --device: an account of one device of this user, under a name of its own.")
]
Device = Annotated[
    str | None, typer.Option(help="The one device of the account, which publishes its telemetry and nothing else.")
]
PasswordFile = Annotated[
    str | None, typer.Option(help="File that holds the password, `-` for standard input. Default: a prompt.")
]
Local = Annotated[bool, typer.Option("--local", help="Of the stack `iot-stream up` has started: Mosquitto as well.")]
AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]


@users.callback()
def group() -> None:
    """Manage the MQTT accounts. A user name is a user, a client id a device; each is confined to its own topics."""


@users.command()
def add(
    username: Name,
    client_id: ClientId = None,
    allow: Allow = None,
    user: User = None,
    device: Device = None,
    password_file: PasswordFile = None,
    local: Local = False,
    directory: Directory = None,
) -> None:
    """Make an account.

    Examples: iot-stream users add truck-fleet --allow subscribe:users/truck-fleet/# --password-file /run/secrets/trucks

    iot-stream users add truck-1-key --user truck-fleet --device truck-1
    """
    _checked("user name", username)
    own = _one_device(username, user, device)
    if client_id is not None:
        _checked("client id", client_id)
    rules = _rules(username, allow)
    settings, broker = _target(local, directory)
    if broker and client_id is not None:
        what = "Mosquitto cannot bind an account to a client id: leave the option out, or use EMQX"
        raise typer.BadParameter(what, param_hint="--client-id")
    if broker and username in broker.accounts:
        raise PermanentError(f"{username} is an account of the local stack itself")
    password = _password(password_file)

    async def done() -> None:
        async with accounts(settings) as table:
            # Bound to a client id that no other device's account has: client ids are global.
            await table.add(username, client_id or (own and ":".join(own)), password, rules, own)
            if broker:
                broker.added.put(username, password, rules, own)

    asyncio.run(done())
    _notify_broker(broker)
    print(f"added {username}")


@users.command("list")
def show(as_json: AsJson = False, local: Local = False, directory: Directory = None) -> None:
    """Each account with its rights beyond its own topics.

    Example: iot-stream users list --json
    """
    settings, _ = _target(local, directory)

    async def found() -> list[MqttAccount]:
        async with accounts(settings) as table:
            return await table.all()

    rows = [_as_dict(account) for account in asyncio.run(found())]
    if as_json:
        print(json.dumps(rows))
        return
    cells = [
        (
            row["username"],
            f"{row['user']}, device {row['device']} alone" if row["device"] else "a user",
            row["client_id"] or "any",
            "; ".join(row["rules"]),
        )
        for row in rows
    ]
    print_table(("account", "of", "client id", "rules"), cells)


@users.command()
def remove(username: Name, local: Local = False, directory: Directory = None) -> None:
    """Remove an account and its rules. A client that is connected stays connected until EMQX kicks the client out.

    Example: iot-stream users remove truck-fleet
    """
    settings, broker = _target(local, directory)

    async def done() -> None:
        async with accounts(settings) as table:
            await table.remove(username)
            if broker:
                broker.added.remove(username)

    asyncio.run(done())
    _notify_broker(broker)
    print(f"removed {username}")


@users.command()
def passwd(
    username: Name, password_file: PasswordFile = None, local: Local = False, directory: Directory = None
) -> None:
    """Change a password. A client that is connected stays so until it connects again.

    Example: openssl rand -hex 12 | tee new-password | iot-stream users passwd truck-fleet --password-file -
    """
    settings, broker = _target(local, directory)
    password = _password(password_file)

    async def done() -> None:
        async with accounts(settings) as table:
            await table.set_password(username, password)
            if broker:
                broker.added.put(username, password)

    asyncio.run(done())
    _notify_broker(broker)
    print(f"changed the password of {username}")


def _target(local: bool, directory: Path | None) -> tuple[Settings, Mosquitto | None]:
    """The database, and the broker whose files are to be written as well."""
    if not local:
        return load(), None
    stack = local_stack(directory)
    return stack.settings(), stack.mosquitto


def _notify_broker(broker: Mosquitto | None) -> None:
    if broker:
        broker.write_accounts()
        broker.reload()


def _checked(what: str, name: str) -> None:
    if fault := name_fault(name):
        raise typer.BadParameter(f"{name!r} cannot be a {what}: {fault}")


def _rules(username: str, allow: list[str] | None) -> list[AclRule]:
    try:
        return [rule(username, text) for text in allow or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--allow") from None


def _one_device(username: str, user: str | None, device: str | None) -> tuple[str, str] | None:
    """User and device of an account of one device; None: the account is a user's."""
    if user is None and device is None:
        return None
    if user is None or device is None:
        raise typer.BadParameter("an account of one device needs both: --user USER --device DEVICE")
    for what, name in (("user", user), ("device", device)):
        _checked(what, name)
        if "$" in name:
            raise typer.BadParameter(f"{name!r} cannot be a {what} of such an account: no $")
    if user == username:
        what = f"the account needs a name of its own: {username} is the user's, with all his rights"
        raise typer.BadParameter(what, param_hint="username")
    return user, device


def _password(file: str | None) -> str:
    """The password from the file, standard input or a prompt; never from the command line, which others see. Raises
    BadParameter."""
    try:
        if file is not None:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
            password = text.removeprefix("\ufeff").rstrip("\r\n")  # the mark that editors of Windows begin with
        elif sys.stdin.isatty():
            password = getpass("Password: ")
            if getpass("Again: ") != password:
                raise typer.BadParameter("the two passwords differ")
        else:
            raise typer.BadParameter("no password: name its file with --password-file, or - for standard input")
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot read the password from {file}: {getattr(error, 'strerror', None) or error}"
        raise typer.BadParameter(what, param_hint="--password-file") from None
    if fault := password_fault(password):
        raise typer.BadParameter(fault)
    return password


def _as_dict(account: MqttAccount) -> dict[str, Any]:
    return {
        "username": account.username,
        "client_id": account.client_id,
        "user": account.device[0] if account.device else account.username,
        "device": account.device[1] if account.device else None,
        "superuser": account.superuser,
        "created": account.created.isoformat(),
        "rules": [f"{one.permission} {one.action.value}:{one.topic}" for one in account.rules],
    }
