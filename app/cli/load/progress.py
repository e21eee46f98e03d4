"""The progress of a load test: a small table on a terminal, else a line now and then. On standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.cli.options import on_a_terminal, say
from app.loadtest.progress import LoadPhase, LoadProgress, line, milliseconds

PLAIN_SECONDS = 5.0  # between two lines, unless something new begins


@contextmanager
def shown() -> Iterator[Callable[[LoadProgress], None]]:
    """What shows a progress, for the block."""
    if not on_a_terminal():
        yield PlainProgress(say)
        return
    with Live(console=Console(file=sys.stderr), auto_refresh=False, transient=True) as live:
        yield lambda progress: live.update(picture(progress), refresh=True)


class PlainProgress:
    """Prints a line every PLAIN_SECONDS, and at the beginning of each phase."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._phase: LoadPhase | None = None
        self._due = 0.0

    def __call__(self, progress: LoadProgress) -> None:
        """Print, if it is time."""
        now = time.monotonic()
        if progress.phase is not self._phase or now >= self._due:
            self._phase, self._due = progress.phase, now + PLAIN_SECONDS
            self._write(line(progress))


def picture(progress: LoadProgress) -> Group:
    """The progress as a terminal shows it."""
    now = progress.now
    table = Table(box=None, padding=(0, 3, 0, 0))
    for name in ("", "sum", "a second", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("sent", f"{now.sent:,}", f"{progress.sent_a_second:,.0f}", "", "")
    times = (milliseconds(now.ack_p50), milliseconds(now.ack_p99))
    table.add_row("acknowledged", f"{now.acked:,}", f"{progress.acked_a_second:,.0f}", *times)
    if now.stored is not None:
        times = (milliseconds(now.row_p50), milliseconds(now.row_p99))
        table.add_row("stored", f"{now.stored:,}", "", *times)
    table.add_row("waiting", f"{progress.waiting:,}", "", "", "")
    if progress.refused:
        table.add_row("refused", f"{progress.refused:,}", "", "", "", style="red")
    table.add_row("connected", f"{now.connected:,}", f"of {progress.devices:,}", "", "")
    head = Text(f"{progress.phase.value}, {max(now.at, 0):,.0f} s", style="bold")
    return Group(head, table, Text(progress.problem, style="yellow"))
