"""What `iot-stream rules` shows a person: a timeline of alerts, a summary with a plot, rule sets."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from app.backtest.alert_spans import Span
from app.backtest.duration import spoken
from app.backtest.plot import bars, blocks
from app.backtest.summary import BINS, RuleFigures, Summary
from app.cli.render.table import print_table
from app.core.model.alert_event import AlertEvent, Status
from app.core.rules.rule import RuleSet
from app.runtime.colours import COLOURS

SHOWN = 20  # pairs of rule and device with the most alerts
HEIGHT = 4  # lines of the plot of all rules together


def print_timeline(events: Sequence[AlertEvent], spans: Sequence[Span]) -> None:
    """Print a table with a line for each event, by event time; `after` is how long the alert has been open by then.
    Each event is of one of `spans`.
    """
    fired = {span.alert_id: span.fired_at for span in spans}
    rows = []
    for event in sorted(events, key=lambda one: one.event_time):
        what = Text(f"{event.status} {event.cause or ''}".rstrip(), style=COLOURS.get(event.status, ""))
        first = event.status is Status.FIRING and not event.repeat
        after = "" if first else spoken((event.event_time - fired[event.alert_id]).total_seconds())
        when = event.event_time.isoformat(" ")[5:-6]  # without the year and the offset
        rows.append((when, event.device_id, event.rule_id, what, event.severity, f"{event.value}", after))
    print_table(("time (UTC)", "device", "rule", "what", "severity", "value", "after"), rows)


def summary(found: Summary, rules: RuleSet) -> RenderableType:
    """The rules, the plot, and the SHOWN devices that alert most, to be printed."""
    of_rules = found.of_rules(rule.id for rule in rules.rules)
    figures = found.figures
    parts: list[RenderableType] = [_table("devices", of_rules), ""]
    if figures:
        parts += [_plot(found, rules), "", _table("device", figures[:SHOWN])]
    if len(figures) > SHOWN:
        parts.append(f"and {len(figures) - SHOWN} more; --json has them all")
    return Group(*parts)


def _table(of: str, rows: Sequence[RuleFigures]) -> Table:
    table = Table(box=None)
    for name in ("rule", of):
        table.add_column(name, overflow="fold")
    for name in ("alerts", "flaps", "open at the end", "longest", "together"):
        table.add_column(name, justify="right")
    for row in rows:
        times = (spoken(row.longest), spoken(row.seconds)) if row.alerts else ("", "")
        counts = (f"{row.alerts:,}", f"{row.flaps:,}", f"{row.open:,}")
        table.add_row(Text(row.rule_id), Text(row.device_id), *counts, *times)
    return table


def _plot(found: Summary, rules: RuleSet) -> Table:
    """Alerts that fired over time: all together in columns, each rule in a line; at its right the highest count.

    Where the table is too wide for the terminal the names of the rules are folded, never the plot.
    """
    table = Table.grid(Column(overflow="fold"), Column(no_wrap=True), Column(no_wrap=True), padding=(0, 2))
    together = [sum(counts) for counts in zip(*found.over_time.values(), strict=True)]
    step = spoken((found.end - found.begin).total_seconds() / BINS)
    table.add_row("", f"at most {max(together):,} alerts in {step}", "")
    for level, line in enumerate(bars(together, HEIGHT)):
        table.add_row("all rules" if level == HEIGHT - 1 else "", Text(line, style="red"), "")
    for rule in rules.rules:
        if counts := found.over_time.get(rule.id):
            table.add_row(Text(rule.id), Text(blocks(counts), style="yellow"), f"{max(counts):,}")
    ends = f"{found.begin:%m-%d %H:%M}", f"{found.end:%m-%d %H:%M}"
    table.add_row("", f"{ends[0]}{ends[1].rjust(BINS - len(ends[0]))}")
    return table


def print_on(console: Console, *parts: RenderableType) -> None:
    """Print the parts without taking anything in them for markup or for an emoji."""
    for part in parts:
        console.print(part, markup=False, highlight=False, emoji=False)
