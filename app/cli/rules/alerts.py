"""`iot-stream alerts`: the open alerts, what was sent, and the commands SNOOZE, DISABLE, ENABLE and ACK."""

import asyncio
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from app.backtest.duration import duration
from app.core.alerts.commands import Command, CommandAction, command
from app.core.alerts.mute_commands import mute_effect
from app.core.model.identity import bad_character
from app.core.model.namespaces import FLEET
from app.core.model.records import Kind, Rejected
from app.core.routing.address import Address
from app.core.rules.globs import Globs
from app.errors import PermanentError
from app.mqtt.one_shot import ask, publish
from app.postgres.connect import operator_session
from app.postgres.queries.alert_lists import MutedAlert, OpenAlert, SentAlert, muted_alerts, open_alerts, sent_alerts
from app.postgres.store.statements import STATEMENTS
from app.settings import load

alerts = typer.Typer(no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]
OfUser = Annotated[str | None, typer.Option("--user", help="Of this user alone.")]
OfRule = Annotated[str | None, typer.Option("--rule", help="Of this rule alone.")]
User = Annotated[str, typer.Argument(help="The user who has the device; '*': all users, but for ack.")]
Device = Annotated[str, typer.Argument(help="Its id.")]
Rule = Annotated[str, typer.Argument(help="The rule's id.")]
SomeDevice = Annotated[str, typer.Argument(help="Its id; '*': every device of the user.")]
SomeRule = Annotated[str, typer.Argument(help="The rule's id; '*': every rule. $offline is of presence.")]
By = Annotated[str, typer.Option(help="Who does it: a name for those who look at `list`.")]
Comment = Annotated[str, typer.Option(help="Why.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the worker's answer; 0: do not wait.")]
Way = Annotated[
    str,
    typer.Option(
        help="`iot` for a device of iot/{user}/..., `users` for a device of users/{user}/...; else of the open alert."
    ),
]

WAIT = 10.0  # seconds


@alerts.callback()
def group() -> None:
    """Look at alerts, and command them: the commands go to users/{user}/alerts/manage, as anybody's do."""


@alerts.command("list")
def show(
    user: OfUser = None,
    rule: OfRule = None,
    device: Annotated[str, typer.Option(help="Only devices that this glob takes in.")] = "*",
    muted: Annotated[bool, typer.Option("--muted", help="What is snoozed or disabled, alerts open or not.")] = False,
    as_json: AsJson = False,
) -> None:
    """The open alerts, the oldest first, and whether each is snoozed, disabled or acknowledged, and by whom.

    Example: iot-stream alerts list --user alice --device 'truck-*'
    """
    globs = Globs([device])
    if muted:
        _show_muted([one for one in asyncio.run(_muted(user, rule)) if globs.takes_in(one.device_id)], as_json)
        return
    found = [one for one in asyncio.run(_open(user, rule)) if globs.takes_in(one.device_id)]
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    from app.cli.render.alerts import opened

    opened(found, datetime.now(UTC))


@alerts.command()
def history(
    user: OfUser = None,
    rule: OfRule = None,
    device: Annotated[str | None, typer.Option(help="Of this device alone.")] = None,
    since: Annotated[str, typer.Option(help="How far to look back: 90s, 15m, 12h, 7d, 2w.")] = "24h",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Not more than so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """The alert events that were sent, the newest first, and when the MQTT broker had each.

    Example: iot-stream alerts history --user alice --since 7d
    """
    begin = datetime.now(UTC) - duration(since)
    found = asyncio.run(_history(user, rule, device, begin, limit))
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    from app.cli.render.alerts import print_history

    print_history(found)


@alerts.command()
def snooze(
    user: User,
    device: SomeDevice,
    rule: SomeRule,
    minutes: Annotated[float, typer.Option(help="For how long, from now on.")] = 60.0,
    way: Way = "",
    by: By = "",
    comment: Comment = "",
    wait: Wait = WAIT,
) -> None:
    """Send nothing of an alert but its RESOLVED, for some time; then the alert fires again if its condition still
    holds.

    Example: iot-stream alerts snooze alice truck-1 temperature --minutes 30
    """
    more = {"duration_minutes": minutes, "way": way, "by": by, "comment": comment}
    _send(user, device, rule, CommandAction.SNOOZE, wait, more)


@alerts.command()
def disable(
    user: User,
    device: SomeDevice,
    rule: SomeRule,
    way: Way = "",
    by: By = "",
    comment: Comment = "",
    wait: Wait = WAIT,
) -> None:
    """Send nothing of an alert but its RESOLVED, until `enable`; of one rule on one device, or until that rule means
    something else.

    Example: iot-stream alerts disable alice truck-1 temperature
    """
    _send(user, device, rule, CommandAction.DISABLE, wait, {"way": way, "by": by, "comment": comment})


@alerts.command()
def enable(user: User, device: SomeDevice, rule: SomeRule, way: Way = "", wait: Wait = WAIT) -> None:
    """End `snooze` and `disable` of the same device and rule: an alert that is still open fires again at the next
    reading.

    Example: iot-stream alerts enable alice truck-1 temperature
    """
    _send(user, device, rule, CommandAction.ENABLE, wait, {"way": way})


@alerts.command()
def ack(
    user: User, device: Device, rule: Rule, way: Way = "", by: By = "", comment: Comment = "", wait: Wait = WAIT
) -> None:
    """Acknowledge the open alert: it is not escalated, and later events say by whom.

    Example: iot-stream alerts ack alice truck-1 temperature
    """
    _send(user, device, rule, CommandAction.ACK, wait, {"way": way, "by": by, "comment": comment})


class _HistoryRow(msgspec.Struct):
    """As much of a Kafka record as checking a command asks for."""

    value: bytes | None
    timestamp: int
    offset: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def _send(user: str, device: str, rule: str, action: CommandAction, wait: float, more: Mapping[str, object]) -> None:
    """Check the command as a worker does before it looks at the device, publish the command, and say what became of it.

    Raises PermanentError when a worker refuses the command, TransientError when no answer comes.
    """
    if not user or any(char in user for char in "/+#\0") or bad_character(user):
        raise typer.BadParameter(f"{user!r} is no user: the id is one level of an MQTT topic", param_hint="user")
    wanted: dict[str, object] = {"device_id": device, "rule_id": rule, "action": action.value}
    wanted |= {name: value for name, value in more.items() if value != ""}
    if wait:
        wanted["request_id"] = secrets.token_hex(8)
    payload = json.dumps(wanted).encode()
    now_ms = time.time_ns() // 1_000_000
    address = Address(Kind.ALERTS_MANAGE, "everybody" if user == FLEET else user, "")
    found = command(_HistoryRow(payload, now_ms), address, now_ms)
    if isinstance(found, Rejected):
        raise typer.BadParameter(found.detail)
    if user == FLEET:
        changed = asyncio.run(_mute_everybody(found))
        print(f"done {action} of {rule} on {device} for all users" + ("" if changed else ": there was no such mute"))
        return
    topic = f"users/{user}/alerts/manage"
    if not wait:
        publish(load(), topic, payload)
        print(f"sent {action} to {topic}; if a worker refuses the command, users/{user}/alerts/errors says why")
        return
    answer = ask(load(), topic, payload, f"users/{user}/alerts/errors", str(wanted["request_id"]), wait)
    if "error" in answer:
        raise PermanentError(f"{action} is refused: {answer['error']}")
    note = f"; {answer['note']}" if "note" in answer else ""
    print(f"done {action} of {rule} on {device}: a worker has obeyed it{note}")


async def _mute_everybody(given: Command) -> bool:
    """Change the mutes of all users, which nobody can over MQTT; returns whether that changed anything. Raises
    PermanentError for ACK, which mutes nothing.
    """
    if given.action is CommandAction.ACK:
        raise PermanentError("ACK is for one alert of one user")
    effect = mute_effect(msgspec.structs.replace(given, user_id=FLEET))
    async with operator_session(load(), "alerts") as connection:
        return not (await connection.execute(STATEMENTS[effect.statement].sql, *effect.args)).endswith(" 0")


def _show_muted(found: Sequence[MutedAlert], as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    from app.cli.render.alerts import muted

    muted(found)


async def _muted(user: str | None, rule: str | None) -> list[MutedAlert]:
    async with operator_session(load(), "alerts") as connection:
        return await muted_alerts(connection, user, rule)


async def _open(user: str | None, rule: str | None) -> list[OpenAlert]:
    async with operator_session(load(), "alerts") as connection:
        return await open_alerts(connection, user, rule)


async def _history(
    user: str | None, rule: str | None, device: str | None, since: datetime, limit: int
) -> list[SentAlert]:
    async with operator_session(load(), "alerts") as connection:
        return await sent_alerts(connection, user, rule, device, since, limit)
