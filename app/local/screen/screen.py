"""The live screen of `iot-stream run`: figures and alerts in, what is drawn or printed out. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.local.screen.figures import ScreenFigures
from app.runtime.colours import COLOURS


@dataclass(frozen=True)
class View:
    """All that is on the screen at one moment."""

    figures: ScreenFigures | None  # None: the worker does not answer
    rate: float  # messages a second
    alerts: Sequence[dict[str, Any]]  # alert events as published over MQTT, newest first
    unwell: Sequence[str]  # names of processes that do not run
    where: str  # the line with the addresses


def draw(view: View) -> Group:
    """For a terminal."""
    parts: list[Any] = [_figures(view), _alerts(view.alerts)]
    if view.unwell:
        parts.append(Text(f"not running, being started again: {', '.join(view.unwell)}", style="bold red"))
    parts.append(Text(f"{view.where}\nCtrl-C stops it", style="dim", overflow="fold"))
    return Group(*parts)


def _figures(view: View) -> Panel:
    if view.figures is None:
        return Panel("the worker does not answer", title="iot-stream", border_style="red")
    figures = view.figures
    table = Table.grid(padding=(0, 3))
    table.add_row("received", _count(figures.received), f"{view.rate:,.0f}/s", "lag", _count(figures.lag))
    table.add_row("stored", _count(figures.stored), "", "breaker", _breaker(figures.breaker))
    table.add_row("duplicate", _count(figures.duplicate))
    table.add_row("dead letters", _count(figures.dead), _by(figures.dead_letters))
    table.add_row("alerts", _count(sum(figures.alerts.values())), _by(figures.alerts))
    return Panel(table, title="iot-stream", border_style="green")


def _alerts(alerts: Sequence[dict[str, Any]]) -> Panel:
    table = Table("time", "status", "severity", "device", "message", "value", box=None, expand=True)
    for alert in alerts:
        status = str(alert.get("status", "?"))
        device = f"{alert.get('user_id')}/{alert.get('device_id')}"
        when = str(alert.get("event_time", ""))[11:19]
        cells = [str(alert.get(name, "")) for name in ("severity", "message", "value")]
        table.add_row(
            when, Text(status, style=COLOURS.get(status, "")), Text(cells[0]), Text(device), *map(Text, cells[1:])
        )
    return Panel(table, title="alerts on MQTT users/+/alerts")


def plain(view: View) -> str:
    """One line, for when nobody looks at a terminal."""
    if view.figures is None:
        return "the worker does not answer"
    f = view.figures
    line = (
        f"received {f.received}  stored {f.stored}  duplicate {f.duplicate}  dead letters {f.dead}"
        f"  alerts {sum(f.alerts.values())}  lag {f.lag}  rate {view.rate:.0f}/s"
    )
    return f"{line}  not running: {', '.join(view.unwell)}" if view.unwell else line


def _count(number: int) -> str:
    return f"{number:,}"


def _by(counts: Any) -> str:
    return "  ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)


def _breaker(state: float) -> str:
    return {0.0: "closed", 0.5: "half-open", 1.0: "OPEN: the database is away, messages wait in Kafka"}.get(state, "?")
