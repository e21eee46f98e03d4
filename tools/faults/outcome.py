"""The outcome of a run: its faults, the accounts, and every broken promise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.faults.accounts import Accounts
from tools.faults.schedule import Fault


@dataclass
class Episode:
    """The outcome of one fault, or of two concurrent faults."""

    faults: Sequence[Fault]
    begins: dict[str, int]  # each stream's next message at the start of the fault
    seconds: float = math.nan  # seconds until recovery
    limit: float = math.inf  # maximum seconds until recovery
    whole: float = math.nan  # seconds until all programs were ready, rebalances over and rows stored again

    @property
    def name(self) -> str:
        """The name of its row in the table."""
        return str(self.faults[0].kind) if len(self.faults) == 1 else "two at once"

    def __str__(self) -> str:
        what = " + ".join(f"{fault.kind} {fault.seconds:g} s" for fault in self.faults)
        return f"{what:50s} recovered in {self.seconds:4.1f} s, whole in {self.whole:4.1f} s"


@dataclass
class Outcome:
    """The figures and problems of a run."""

    seed: int
    episodes: list[Episode] = field(default_factory=list)
    accounts: Accounts = field(default_factory=Accounts)
    ends: dict[str, int] = field(default_factory=dict)  # messages of each stream
    repeats: int = 0  # messages that MQTT delivered again
    sinks: dict[str, int] = field(default_factory=dict)  # records that each destination received again, where known
    problems: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # recoveries that took too long
    took: float = 0.0  # seconds

    @property
    def broken(self) -> list[str]:
        """Every broken promise; empty when all promises are kept."""
        return self.problems + self.accounts.problems + self.late
