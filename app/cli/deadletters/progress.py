"""How a replay goes, on standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.cli.options import say
from app.cli.render.dlq import progress_line
from app.deadletters.group import Course
from app.deadletters.replay import ReplayCounts

LINE_SECONDS = 5.0


@contextmanager
def progress(course: Course) -> Iterator[Callable[[ReplayCounts], None]]:
    """What is to be called after each chunk."""
    began = time.monotonic()
    if not sys.stderr.isatty():
        yield _lines(course, began)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        whole = course.left
        task = bar.add_task("reading", total=whole)

        def show(counts: ReplayCounts) -> None:
            line = progress_line(counts, course.left, time.monotonic() - began)
            bar.update(task, completed=whole - course.left, description=line)

        yield show


def _lines(course: Course, began: float) -> Callable[[ReplayCounts], None]:
    last = began

    def show(counts: ReplayCounts) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            say(progress_line(counts, course.left, now - began))

    return show
