"""`iot-stream users token`: bearer tokens for the gateways; a token is shown once, when it is made."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from app.cli.data.local_target import settings_of
from app.cli.options import Directory, past
from app.core.routing.mqtt_acl import name_fault
from app.core.routing.tokens import PREFIX, SECRET_BYTES
from app.postgres.connect import Connection, operator_session
from app.postgres.queries.gateway_tokens import StoredToken, add, revoke, stored

T = TypeVar("T")
token = typer.Typer(no_args_is_help=True)

Local = Annotated[bool, typer.Option("--local", help="Of the stack `iot-stream up` has started.")]
AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]


@token.callback()
def group() -> None:
    """Bearer tokens of an account: for HTTP, gRPC and TCP instead of its password. Only their hashes are kept."""


@token.command("add")
def make(
    username: Annotated[str, typer.Argument(help="The account: see `iot-stream users list`.")],
    device: Annotated[
        str | None, typer.Option(help="Bind the token to this device: it publishes the device's telemetry alone.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the token is for; shown by list.")] = "",
    expires: Annotated[
        str | None, typer.Option(help="Ends after this long, such as 90d or 12h. Default: never.")
    ] = None,
    as_json: AsJson = False,
    local: Local = False,
    directory: Directory = None,
) -> None:
    """Make a token and print it; it is not shown again.

    Example: iot-stream users token add alice --device truck-1 --expires 90d > /run/secrets/truck-1-token
    """
    if device is not None and (fault := name_fault(device) or ("no $" if "$" in device else None)):
        raise typer.BadParameter(f"{device!r} cannot be a device of a token: {fault}", param_hint="--device")
    if len(name) > 200 or not (name.isprintable() or not name):
        raise typer.BadParameter("give one line of at most 200 characters", param_hint="--name")
    seconds = past(expires, "--expires").total_seconds() if expires is not None else None
    made = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    number, ends = _asked(lambda table: add(table, made, username, device, name, seconds), local, directory)
    until = ends.isoformat() if ends else None
    if as_json:
        print(json.dumps({"id": number, "username": username, "device": device, "expires": until, "token": made}))
        return
    print(made)
    typer.echo(f"token {number} of {username}; it is not shown again", err=True)


@token.command("list")
def show(
    username: Annotated[str | None, typer.Argument(help="Of this account alone.")] = None,
    as_json: AsJson = False,
    local: Local = False,
    directory: Directory = None,
) -> None:
    """Each token: its number, account, purpose and end. Never the token itself.

    Example: iot-stream users token list alice --json
    """
    rows = [_as_dict(one) for one in _asked(lambda table: stored(table, username), local, directory)]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        ends = f"{'ended' if row['ended'] else 'ends'} {row['expires']}" if row["expires"] else "never ends"
        of = f"{row['username']:<24} device {row['device'] or 'any':<24}"
        print(f"{row['id']:<6} {of} {ends:<34} {row['name']}".rstrip())


@token.command("revoke")
def forget(
    number: Annotated[int, typer.Argument(help="The token's number, as list shows it.")],
    local: Local = False,
    directory: Directory = None,
) -> None:
    """Revoke a token. A gateway refuses it once it looks the token up again: IOT_AUTH_CACHE_SECONDS.

    Example: iot-stream users token revoke 17
    """
    username = _asked(lambda table: revoke(table, number), local, directory)
    print(f"revoked token {number} of {username}")


def _asked(question: Callable[[Connection], Awaitable[T]], local: bool, directory: Path | None) -> T:
    """The answer of the database, in one transaction. Raises TransientError or PermanentError."""
    settings = settings_of(local, directory)

    async def ask() -> T:
        async with operator_session(settings, "users") as connection, connection.transaction():
            return await question(connection)

    return asyncio.run(ask())


def _as_dict(one: StoredToken) -> dict[str, Any]:
    return {
        "id": one.number,
        "username": one.username,
        "device": one.device_id,
        "name": one.name,
        "created": one.created.isoformat(),
        "expires": one.ends.isoformat() if one.ends else None,
        "ended": one.ended,
    }
