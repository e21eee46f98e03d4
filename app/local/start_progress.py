"""What a start is doing and how far it is: steps in, lines for a person out.

A line when a step is done, and one every SECONDS that names the steps under way, so that nobody takes a long one for a
stop.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 2.0  # the longest time without a line, while a step lasts


class StartProgress:
    """The steps of one start, which may run in several threads; used with `with`."""

    def __init__(self, say: Callable[[str], None], meanwhile: Callable[[str], None] | None = None) -> None:
        """`say` gets lines that stay, `meanwhile` those that the next one may replace; None: `say`."""
        self._say, self._meanwhile = say, meanwhile or say
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._begun: dict[str, float] = {}  # on the monotonic clock, by the step's name
        self._notes: dict[str, str] = {}
        self._done = self._total = 0
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> "StartProgress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def expect(self, steps: int) -> None:
        """So many more steps will come: lines say how many of them are done."""
        self._total += steps

    def note(self, name: str, what: str) -> None:
        """What the step `name` is doing now; said with the next line about it."""
        with self._lock:
            self._notes[name] = what

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step for the length of the block; a line says that it is done, unless an exception ends it."""
        begun = time.monotonic()
        with self._lock:
            self._begun[name] = begun
        try:
            yield
        except BaseException:
            with self._lock:
                del self._begun[name]
            raise
        with self._lock:
            del self._begun[name]
            self._done += 1
            counts = f"{self._done} of {self._total}: " if self._total else ""
        self._say(f"{counts}{name} is ready after {time.monotonic() - begun:.1f} s")

    def _run(self) -> None:
        while not self._ended.wait(SECONDS):
            if line := self.line():
                self._meanwhile(line)

    def line(self) -> str:
        """The steps under way, how long each takes already and what it is doing; empty when there are none."""
        now = time.monotonic()
        with self._lock:
            steps = [
                f"{name} ({', '.join(filter(None, (f'{now - begun:.0f} s', self._notes.get(name))))})"
                for name, begun in self._begun.items()
            ]
        return f"waiting for {', '.join(steps)}" if steps else ""
