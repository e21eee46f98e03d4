"""What `iot-stream alerts` shows a person."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.text import Text

from app.backtest.duration import spoken
from app.cli.render.table import print_table
from app.postgres.queries.alert_lists import MutedAlert, OpenAlert, SentAlert
from app.runtime.colours import COLOURS


def opened(alerts: Sequence[OpenAlert], now: datetime) -> None:
    """Print a line for each open alert, and how long its condition has held by `now` (aware)."""
    if not alerts:
        print("no alert is open")
        return
    rows = []
    for one in alerts:
        until = f" until {_time(one.snoozed_until)}" if one.snoozed_until else ""
        open_for = spoken(max(0, round((now - one.first_seen).total_seconds())))
        value = "" if one.value is None else f"{one.value:g}"
        by = f" by {one.assignee}" if one.assignee else ""
        state = Text(one.state + by + until, style=COLOURS.get(one.state, ""))
        ids = (one.user_id, _device(one), one.rule_id, one.severity)
        words = f"{one.message} ({one.comment})" if one.comment else one.message
        rows.append((*ids, state, value, open_for, words))
    print_table(("user", "device", "rule", "severity", "state", "value", "open for", "message"), rows)


def muted(found: Sequence[MutedAlert]) -> None:
    """Print a line for each mute, and how to end one."""
    if not found:
        print("nothing is snoozed or disabled")
        return
    rows = []
    for one in found:
        state = f"SNOOZED until {_time(one.snoozed_until)}" if one.snoozed_until else "DISABLED"
        rows.append((one.user_id, _device(one), one.rule_id, state, _time(one.since), one.by, one.comment))
    print_table(("user", "device", "rule", "state", "since", "by", "comment"), rows)
    print("to end one: iot-stream alerts enable USER DEVICE RULE")


def print_history(alerts: Sequence[SentAlert]) -> None:
    """Print a line for each event; `sent after`: from its record until the MQTT broker had the event.

    The severity is left to --json: a terminal of 80 columns has no room for it.
    """
    if not alerts:
        print("nothing was sent in this time")
        return
    rows = []
    for one in alerts:
        what = Text(f"{one.status} {(one.cause or '').replace('_', ' ')}".rstrip(), style=COLOURS.get(one.status, ""))
        ids = (_time(one.event_time), one.user_id, _device(one), one.rule_id)
        rows.append((*ids, what, one.value or "", _sent(one)))
    print_table(("time (UTC)", "user", "device", "rule", "what", "value", "sent after"), rows)


def _device(one: OpenAlert | SentAlert | MutedAlert) -> str:
    """The name of a device: a device of iot/* differs from a device of the same name of users/*."""
    return f"{one.device_id} ({one.way})" if one.way else one.device_id


def _sent(one: SentAlert) -> str:
    if one.suppressed:
        return "suppressed"
    if one.sent_at is None:
        return "not yet"
    return spoken(max(0.0, round((one.sent_at - one.recorded_at).total_seconds(), 2)))


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%m-%d %H:%M:%S}"
