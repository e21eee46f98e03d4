"""What `iot-stream alerts` shows a person."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.adapters.alert_lists import OpenAlert, ToldAlert
from app.local.screen import COLOURS
from app.rehearsal.duration import spoken


def opened(alerts: Sequence[OpenAlert]) -> None:
    """A line an open alert, and how long it has been open by its device's times."""
    if not alerts:
        print("no alert is open")
        return
    table = _table("user", "device", "rule", "severity", "state", "value", "open for", "message")
    for one in alerts:
        until = f" until {_time(one.snoozed_until)}" if one.snoozed_until else ""
        open_for = spoken((one.last_seen - one.first_seen).total_seconds())
        value = "" if one.value is None else f"{one.value:g}"
        cells = (one.user_id, one.device_id, one.rule_id, one.severity)
        state = Text(one.state + until, style=COLOURS.get(one.state, ""))
        table.add_row(*map(Text, cells), state, value, open_for, Text(one.message))
    Console().print(table)


def told(alerts: Sequence[ToldAlert]) -> None:
    """A line an event."""
    if not alerts:
        print("nothing was told in this time")
        return
    table = _table("time (UTC)", "user", "device", "rule", "what", "severity", "value", "sent")
    for one in alerts:
        what = Text(f"{one.status} {one.cause or ''}".rstrip(), style=COLOURS.get(one.status, ""))
        ids = (_time(one.event_time), one.user_id, one.device_id, one.rule_id)
        sent = "suppressed" if one.suppressed else _time(one.sent_at)
        table.add_row(*map(Text, ids), what, one.severity, Text(one.value or ""), sent)
    Console().print(table)


def _table(*columns: str) -> Table:
    """Nothing is cut off, however narrow the terminal is."""
    table = Table(box=None)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%m-%d %H:%M:%S}"
