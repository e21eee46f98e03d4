"""The screen: a Watch in; its Snapshots on the terminal, and keys. Waits are in tasks, none is in the way of a key."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segments
from rich.traceback import Traceback
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, RichLog, TabbedContent, TabPane

from app.top.model.history import PartitionHistory
from app.top.model.snapshot import Snapshot
from app.top.notes import Notes
from app.top.screen.details import AskDevice, DeviceScreen, HelpScreen, PartitionScreen
from app.top.screen.driver import TerminalDriver
from app.top.screen.head import Head
from app.top.screen.tables import SnapshotTable
from app.top.text import columns
from app.top.text.headline import Piece
from app.top.text.tone import Tone
from app.top.watch import Watch

PATIENCE = 1.0  # seconds that a picture waits for sources that have not answered
STOP_SECONDS = 0.2  # seconds between two looks at `stopped`
_OF_TABLES = {"filter", "all_rows", "sort", "reverse", "tab", "device"}
_BELOW = (columns.PARTITIONS, columns.BOOKS, columns.ALERTS, columns.SINKS)


class TopApp(App[None]):
    """Polls an entered Watch while the screen runs. `return_code` is 0 unless the screen crashed."""

    TITLE = "iot-stream top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Head { padding: 0 1; }
    #programs { height: auto; max-height: 35%; margin: 1 0 0 0; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    SnapshotTable { background: $surface; scrollbar-size: 0 1; }
    #filter { display: none; dock: bottom; height: 1; border: none; padding: 0 1; margin: 0 0 1 0; }
    #filter.open { display: block; }
    HelpScreen, AskDevice { align: center middle; }
    #help { width: 58; height: auto; max-height: 100%; padding: 0 1; border: round $primary; }
    #ask { width: 56; }
    DeviceScreen VerticalScroll, PartitionScreen VerticalScroll { padding: 0 1; }
    Sparkline { height: 3; }
    #lag-title, #rate-title { margin: 1 0 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("d", "device", "Device"),
        Binding("p", "pause", "Pause"),
        Binding("question_mark", "help", "Help"),
        Binding("escape", "all_rows", "All rows", show=False),
        *(Binding(str(n), f"tab({n - 1})", show=False) for n in range(1, 6)),
    ]

    def __init__(
        self,
        watch: Watch,
        interval: float,
        *,
        title: Sequence[Piece] = (Piece("", "iot-stream top"),),
        notes: Notes | None = None,
        warnings: Callable[[], Sequence[str]] = tuple,
        stopped: threading.Event | None = None,
    ) -> None:
        """`interval`: seconds between two looks; `title`: what stands above all; `warnings`: what else to say above the
        tables; `notes`: lines of a tab, None: without that tab; when `stopped` is set, the screen ends.
        """
        super().__init__(driver_class=TerminalDriver)
        self._watch, self._interval = watch, interval
        self._title, self._notes, self._warnings = title, notes, warnings
        self._stopped = stopped or threading.Event()
        self._history = PartitionHistory()
        self._snapshot: Snapshot | None = None
        self._paused, self._wanted, self._noted = False, "", 0

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action may be done now: what is done to the tables is not done from another screen (textual)."""
        return len(self.screen_stack) == 1 or action not in _OF_TABLES

    def compose(self) -> ComposeResult:
        """Yield the head, the programs, and one of the other tables."""
        yield Head()
        yield SnapshotTable(columns.PROGRAMS)
        with TabbedContent():
            for number, spec in enumerate(_BELOW, 1):
                with TabPane(f"{number} {spec.name}", id=f"tab-{spec.name}"):
                    yield SnapshotTable(spec)
            if self._notes is not None:
                with TabPane(f"{len(_BELOW) + 1} log", id="tab-log"):
                    yield RichLog(wrap=True, markup=False, id="log")
        yield Input(placeholder="rows that hold ...", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.set_interval(STOP_SECONDS, self._exit_once_stopped)
        self.query_one(f"#{columns.PARTITIONS.name}").focus()
        self.run_worker(self._poll(), name="poll")

    async def _poll(self) -> None:
        while True:
            due = time.monotonic() + self._interval
            self._show(await self._watch.look(min(self._interval, PATIENCE)))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _fatal_error(self) -> None:
        """Print the traceback without local variables, which Textual's own shows: one may be a password."""
        traceback = Traceback(show_locals=False)
        self._exit_renderables.append(Segments(self.console.render(traceback, self.console.options)))
        self._close_messages_no_wait()

    def _exit_once_stopped(self) -> None:
        if self._stopped.is_set():
            self.exit()

    def _show(self, snapshot: Snapshot) -> None:
        self._history.add(snapshot)
        if not self._paused:
            self._snapshot = snapshot
            self._draw()

    def _draw(self) -> None:
        if self._snapshot is None or not self.is_running:
            return
        main, width = self.screen_stack[0], self.size.width
        main.query_one(Head).show(self._snapshot, width - 2, self._state(self._snapshot))
        active = main.query_one(TabbedContent).active_pane
        for table in main.query(SnapshotTable):
            if table.spec is columns.PROGRAMS or (active and table.parent is active):
                table.show(self._snapshot, self._wanted, width)
        if self._notes is not None:
            log = main.query_one("#log", RichLog)
            for line in self._notes.since(self._noted):
                log.write(line)
            self._noted = self._notes.count
        if isinstance(self.screen, PartitionScreen | DeviceScreen) and self.screen.is_mounted:  # else it draws itself
            self.screen.show(self._snapshot)

    def _state(self, snapshot: Snapshot) -> list[Piece]:
        return [
            *self._title,
            *(Piece("", warning, Tone.BAD) for warning in self._warnings()),
            *([Piece("group", snapshot.group)] if snapshot.group else []),
            *([Piece("filter", self._wanted, Tone.WARNING)] if self._wanted else []),
            *([Piece("", "PAUSED", Tone.WARNING)] if self._paused else []),
        ]

    def on_resize(self) -> None:
        """Draw again: another width has room for other columns."""
        self._draw()

    def on_tabbed_content_tab_activated(self) -> None:
        """Draw the table that is shown now: a hidden table is not kept up to date."""
        self._draw()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open the screen of the partition, or of the alert's device (Enter)."""
        key = event.row_key.value
        if self._snapshot is None or key is None:
            return
        if event.data_table.id in (columns.PARTITIONS.name, columns.BOOKS.name):
            self.push_screen(PartitionScreen(int(key), self._history, self._snapshot))
        elif event.data_table.id == columns.ALERTS.name:
            self._look_into(key.partition("\n")[0])

    def _look_into(self, device: str | None) -> None:
        if device is not None:
            self.push_screen(DeviceScreen(device, self._watch.device))

    def action_device(self) -> None:
        """Ask which device, then open its screen."""
        self.push_screen(AskDevice(), self._look_into)

    def action_tab(self, number: int) -> None:
        """Show the table of that number, from 0, and move the focus to it."""
        panes = list(self.query(TabPane))
        if number < len(panes):
            self.query_one(TabbedContent).active = panes[number].id or ""
            panes[number].children[0].focus()

    def action_pause(self) -> None:
        """Stop drawing; the looking goes on, so that rates and curves have no gap."""
        self._paused = not self._paused
        self._draw()

    def _table(self) -> SnapshotTable:
        focused = self.focused
        return focused if isinstance(focused, SnapshotTable) else self.query_one("#partitions", SnapshotTable)

    def action_sort(self) -> None:
        """Sort the table that has the focus by its next column."""
        self._table().next_order()

    def action_reverse(self) -> None:
        """Turn the order of the table that has the focus round."""
        self._table().reverse()

    def action_help(self) -> None:
        """Show what each key does."""
        self.push_screen(HelpScreen())

    def action_filter(self) -> None:
        """Open the line into which a filter is typed."""
        line = self.query_one("#filter", Input)
        line.add_class("open")
        line.focus()

    def action_all_rows(self) -> None:
        """Take the filter away."""
        self.query_one("#filter", Input).value = ""
        self._close_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter the table while its filter is typed."""
        if event.input.id == "filter":
            self._wanted = event.value.strip()
            self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter, and go back to the rows."""
        if event.input.id == "filter":
            self._close_filter()

    def _close_filter(self) -> None:
        line = self.query_one("#filter", Input)
        if line.has_class("open"):
            line.remove_class("open")
            self.query_one(f"#{columns.PARTITIONS.name}").focus()
