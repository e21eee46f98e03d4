"""What became of pushed lines: in, each; out, the figures, and a file of those that were refused."""

import json
import time
from collections import Counter
from typing import TextIO

from app.client.lines.source import Line


class PushReport:
    """Of one run."""

    def __init__(self, refused_to: TextIO | None = None) -> None:
        """`refused_to`: a line of JSON for each line that is refused."""
        self.accepted = 0
        self.reasons = Counter[str]()
        self.failure = ""  # the last time that something was tried again, and why; empty after an ack
        self._refused_to, self._began = refused_to, time.monotonic()

    @property
    def refused(self) -> int:
        """Lines that no gateway will take as they are."""
        return self.reasons.total()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def accept(self, count: int) -> None:
        """So many lines are in Kafka."""
        self.accepted += count
        self.failure = ""

    def refuse(self, line: Line, reason: str, error: str) -> None:
        """A line is not, nor will it be."""
        self.reasons[reason] += 1
        if self._refused_to:
            text = line.text.decode("utf-8", "backslashreplace")
            said = {"line": line.number, "reason": reason, "error": error, "text": text}
            self._refused_to.write(json.dumps(said, ensure_ascii=False) + "\n")

    def figures(self) -> dict[str, object]:
        """For machines."""
        rate = round(self.accepted / self.seconds) if self.seconds else 0
        return {
            "accepted": self.accepted,
            "refused": self.refused,
            "reasons": dict(self.reasons.most_common()),
            "seconds": round(self.seconds, 3),
            "accepted_per_second": rate,
        }

    def line(self) -> str:
        """For people: one line."""
        figures = self.figures()
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())
        return f"{self.accepted} accepted, {self.refused} refused{f' ({reasons})' if reasons else ''}, " + (
            f"{self.seconds:.1f} s, {figures['accepted_per_second']} a second"
        )
