"""The outcome of pushed lines: each in; out, the figures, and a file of the refused lines."""

import json
import time
from collections import Counter
from typing import TextIO

from app.client.lines.source import Line


class PushReport:
    """The figures of one run."""

    def __init__(self, refused_to: TextIO | None = None) -> None:
        """`refused_to`: gets a line of JSON (line, reason, error, text) for each line that is refused; None: refused
        lines are counted alone.
        """
        self.accepted = 0
        self.reasons = Counter[str]()
        self.first_refused = ""  # the first line that was refused, and why
        self.failure = ""  # the last time that something was tried again, and why; empty after an ack
        self._refused_to, self._began = refused_to, time.monotonic()

    @property
    def refused(self) -> int:
        """The number of lines that no gateway will take unchanged."""
        return self.reasons.total()

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self._began

    def accept(self, count: int) -> None:
        """Count so many lines that are in Kafka."""
        self.accepted += count
        self.failure = ""

    def refuse(self, line: Line, reason: str, error: str) -> None:
        """Count a line that is not in Kafka, nor will be, by its `reason`; `error` is for a person."""
        self.reasons[reason] += 1
        self.first_refused = self.first_refused or f"line {line.number}: {error}"
        if self._refused_to:
            text = line.text.decode("utf-8", "backslashreplace")
            said = {"line": line.number, "reason": reason, "error": error, "text": text}
            self._refused_to.write(json.dumps(said, ensure_ascii=False) + "\n")

    def figures(self) -> dict[str, object]:
        """The figures for machines, as built-in types; rates are lines a second."""
        rate = round(self.accepted / self.seconds) if self.seconds else 0
        return {
            "accepted": self.accepted,
            "refused": self.refused,
            "reasons": dict(self.reasons.most_common()),
            "seconds": round(self.seconds, 3),
            "accepted_per_second": rate,
        }

    def line(self) -> str:
        """The figures for people, on one line."""
        figures = self.figures()
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())
        return f"{self.accepted} accepted, {self.refused} refused{f' ({reasons})' if reasons else ''}, " + (
            f"{self.seconds:.1f} s, {figures['accepted_per_second']} a second"
        )
