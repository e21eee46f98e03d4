"""One partition, one device, and the help: screens above the tables; Escape leads back."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Input, Sparkline, Static

from app.top.model.history import PartitionHistory
from app.top.model.programs import plain_text
from app.top.model.snapshot import PartitionRow, Snapshot
from app.top.sources.database import DeviceAnswer
from app.top.text import words

BACK = Binding("escape,q,backspace", "app.pop_screen", "Back")
HELP = """\
[b]Keys[/b]
1 2 3 4 5   partitions, books, alerts, sinks, log
Tab         the programs, or the table below
Enter       into a partition, or an alert's device
d           into a device by its name
s  r        sort by the next column; turn round
/  Escape   only rows that hold a text; all rows
p           pause, and go on
q  Ctrl-C   quit

[b]Words[/b]
in/s        growth of the topic
lag         records not done; the oldest one's wait
age         time of a reading to its commit, 1 minute
carried     settings, status, commands: no row
difference  received less all that became of it
"""


class HelpScreen(ModalScreen[None]):
    """What each key does. Any key closes it."""

    def compose(self) -> ComposeResult:
        """Yield one box of text."""
        with VerticalScroll(id="help"):
            yield Static(HELP)

    def on_key(self) -> None:
        """Close at any key."""
        self.dismiss()


class PartitionScreen(Screen[None]):
    """One partition: its offsets, and its lag and rate over the last looks."""

    BINDINGS = [BACK]  # noqa: RUF012 - textual's way

    def __init__(self, partition: int, history: PartitionHistory, snapshot: Snapshot) -> None:
        super().__init__()
        self._partition, self._history, self._snapshot = partition, history, snapshot

    def compose(self) -> ComposeResult:
        """Facts, then two curves."""
        with VerticalScroll():
            yield Static(id="facts")
            yield Static(id="lag-title")
            yield Sparkline([0.0], id="lag-curve")
            yield Static(id="rate-title")
            yield Sparkline([0.0], id="rate-curve")
        yield Footer()

    def on_mount(self) -> None:
        """Draw what is known already."""
        self.show(self._snapshot)

    def show(self, snapshot: Snapshot) -> None:
        """Draw the newest look; for a partition that is gone the screen says so."""
        row = next((one for one in snapshot.partitions if one.partition == self._partition), None)
        if row is None:
            self.query_one("#facts", Static).update(
                f"partition {self._partition}: no worker and no group knows it any more"
            )
            return
        lag, rates = self._history.lag(self._partition), self._history.rates(self._partition)
        self.query_one("#facts", Static).update(_facts(row))
        self.query_one("#lag-title", Static).update(f"lag, {len(lag)} looks, most {words.count(max(lag, default=0))}")
        self.query_one("#rate-title", Static).update(f"rows/s, most {words.rate(max(rates, default=0))}")
        self.query_one("#lag-curve", Sparkline).data = lag
        self.query_one("#rate-curve", Sparkline).data = rates


def _facts(row: PartitionRow) -> Text:
    lines = [
        ("partition", str(row.partition), ""),
        ("owner", row.owner or words.UNKNOWN, ""),
        ("lag", f"{words.whole(row.lag)} records, {words.seconds(row.lag_seconds)}", ""),
        ("rows/s", words.rate(row.rows_per_second), ""),
        ("committed offset", words.whole(row.committed), ""),
        ("end of the log", words.whole(row.end), ""),
        ("received", words.whole(row.received), ""),
        ("stored", words.whole(row.stored), ""),
        ("duplicate", words.whole(row.duplicate), ""),
        ("dead letters", words.whole(row.dead_lettered), ""),
        ("dropped", words.whole(row.dropped), ""),
        ("difference", words.whole(row.difference), "red" if row.difference else "green"),
    ]
    return Text("\n").join(
        Text.assemble((f"{name:<18}", "dim"), (value, f"bold {tone}".strip())) for name, value, tone in lines
    )


class DeviceScreen(Screen[None]):
    """One device: its last readings and its open alerts, read again at every look."""

    BINDINGS = [BACK]  # noqa: RUF012 - textual's way

    def __init__(self, name: str, ask: Callable[[str, str], Awaitable[DeviceAnswer]]) -> None:
        """`name`: user/device; `ask` is called with the two at every look."""
        super().__init__()
        self._called, self._ask = name, ask

    def compose(self) -> ComposeResult:
        """Yield the text."""
        with VerticalScroll():
            yield Static(f"{self._called}: asking the database ...", id="device", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Ask at once."""
        self.show(None)

    def show(self, _: Snapshot | None) -> None:
        """Ask again, unless the answer to the last question is still awaited."""
        if not any(not worker.is_finished for worker in self.workers if worker.node is self):
            self.run_worker(self._look(), exit_on_error=True)

    async def _look(self) -> None:
        user, _, device = self._called.partition("/")
        answer = await self._ask(user, device)
        self.query_one("#device", Static).update(_device(self._called, answer, time.time()))


def _device(name: str, answer: DeviceAnswer, now: float) -> Text:
    text = Text.assemble((plain_text(name, 200), "bold"), "  ")
    if answer.problem:
        return text.append(answer.problem, "red")
    if answer.status:
        seen = words.seconds(max(0.0, now - answer.status.last_seen.timestamp()))
        text.append(f"{plain_text(answer.status.status)}, seen {seen} ago")
    text.append(f"\n\nopen alerts: {len(answer.alerts) or 'none'}", "bold")
    for alert in answer.alerts:
        value = "" if alert.value is None else f" ({alert.value:g})"
        text.append(f"\n  {alert.severity:<9}{alert.rule}  {words.seconds(alert.since)}  {alert.message}{value}")
    text.append("\n\nlast readings" if answer.readings else "\n\nno reading within a day", "bold")
    for one in answer.readings:
        when = one.time.astimezone(UTC).strftime("%m-%d %H:%M:%S")
        text.append(f"\n  {when}Z  #{one.sequence_id}  ", "dim")
        text.append(plain_text(one.values, 500))
    return text


class AskDevice(ModalScreen[str | None]):
    """Asks for user/device."""

    BINDINGS = [Binding("escape", "dismiss(None)", "Back")]  # noqa: RUF012 - textual's way

    def compose(self) -> ComposeResult:
        """Yield one line to type into."""
        yield Input(placeholder="user/device", id="ask")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """End with user/device when both are there; else the line stays."""
        user, _, device = event.value.strip().partition("/")
        if user and device:
            self.dismiss(f"{user}/{device}")
