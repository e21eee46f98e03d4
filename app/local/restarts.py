"""When a process that died is started again: pure decisions, the clock comes in."""

from dataclasses import dataclass
from enum import Enum

from app.runtime.retry import backoff

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds
STEADY = 60.0  # a process that ran this long has recovered: the next wait is the first one again


class RestartAction(Enum):
    """What to do with a process now."""

    NOTHING = "nothing"
    REPORT = "report"  # the process has just been found dead: say so, and wait
    START = "start"


@dataclass
class Restarts:
    """The starts and deaths of one process. Times are seconds of a monotonic clock."""

    count: int = 0  # starts after the first
    failures: int = 0  # deaths in a row, each soon after its start
    started_at: float = 0.0
    due: float | None = None  # when to start the process again; None while it runs

    @property
    def wait(self) -> float:
        """Seconds to wait after the latest death: 1, 2, 4 ... 30."""
        return backoff(max(0, self.failures - 1), FIRST_WAIT, LONGEST_WAIT)

    def decide(self, alive: bool, now: float) -> RestartAction:
        """What to do, given whether the process runs `now`; to be asked again and again, and notified of a start
        (`started`, `failed`).
        """
        if alive:
            return RestartAction.NOTHING
        if self.due is None:
            self.failures = 1 if now - self.started_at >= STEADY else self.failures + 1
            self.due = now + self.wait
            return RestartAction.REPORT
        return RestartAction.START if now >= self.due else RestartAction.NOTHING

    def started(self, now: float) -> None:
        """Note that the process was started again."""
        self.count += 1
        self.started_at, self.due = now, None

    def failed(self, now: float) -> None:
        """Note that a start of the process failed at once: wait longer."""
        self.failures += 1
        self.due = now + self.wait

    def held(self) -> None:
        """Note that the process was stopped on purpose: it is started at the first decision after that."""
        self.due = 0.0

    def retry_now(self, now: float) -> None:
        """Have the process started at the next decision, whatever its wait."""
        if self.due is not None:
            self.due = now
