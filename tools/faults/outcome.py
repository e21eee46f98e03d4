"""What came of a run: its faults one by one, the accounts, and every promise that was broken."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.faults.accounts import Accounts
from tools.faults.schedule import Fault


@dataclass
class Episode:
    """What came of one fault, or of two at once."""

    faults: Sequence[Fault]
    begins: dict[str, int]  # the streams' next message when it began
    seconds: float = math.nan  # until it had recovered
    limit: float = math.inf  # in which it had to
    whole: float = math.nan  # until all programs were ready and rows flowed, rebalances over

    @property
    def name(self) -> str:
        """Its row in the table."""
        return str(self.faults[0].kind) if len(self.faults) == 1 else "two at once"

    def __str__(self) -> str:
        what = " + ".join(f"{fault.kind} {fault.seconds:g} s" for fault in self.faults)
        return f"{what:50s} recovered in {self.seconds:4.1f} s, whole in {self.whole:4.1f} s"


@dataclass
class Outcome:
    """All there is to tell of a run."""

    seed: int
    episodes: list[Episode] = field(default_factory=list)
    accounts: Accounts = field(default_factory=Accounts)
    ends: dict[str, int] = field(default_factory=dict)  # messages of each stream
    repeats: int = 0  # messages that MQTT delivered again
    sinks: dict[str, int] = field(default_factory=dict)  # what each destination was given again, where it can tell
    problems: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # recoveries that took too long
    took: float = 0.0  # seconds

    @property
    def broken(self) -> list[str]:
        """Every promise that was; empty is good."""
        return self.problems + self.accounts.problems + self.late
