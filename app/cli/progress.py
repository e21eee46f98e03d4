"""How far a command is, on standard error: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.cli.options import moves_cursor, say

LINE_SECONDS = 5.0

Line = Callable[[float], str]  # the seconds since the begin -> a line about what is done
Show = Callable[[int, Line], None]  # takes how many records are left, of `whole`


@contextmanager
def progress(whole: int) -> Iterator[Show]:
    """What is to be called now and then, as the work goes on; `whole`: how many records there are to look at."""
    began = time.monotonic()
    if not moves_cursor():
        yield _lines(began)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=whole)

        def show(left: int, line: Line) -> None:
            bar.update(task, completed=whole - left, description=line(time.monotonic() - began))

        yield show


def _lines(began: float) -> Show:
    last = began

    def show(left: int, line: Line) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            say(line(now - began))

    return show
