"""The outcome of a run as a table for people and as JSON for machines."""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from tools.faults.accounts import Accounts
from tools.faults.outcome import Episode, Outcome

COLUMNS = ("fault", "times", "sent", "stored", "dead-lettered", "lost", "duplicated", "median s", "max s", "whole s")
QUIET = "before the first fault"


@dataclass
class Line:
    """A line for one kind of fault; its messages were sent between the starts of this fault and of the next."""

    fault: str
    times: int = 0
    sent: int = 0
    stored: int = 0
    dead: int = 0
    lost: int = 0
    duplicated: int = 0
    seconds: list[float] = field(default_factory=list)  # until recovery
    whole: list[float] = field(default_factory=list)  # until the state before the fault

    def cells(self) -> list[str]:
        """The cells of the line, in the order of COLUMNS."""
        numbers = (self.times, self.sent, self.stored, self.dead, self.lost, self.duplicated)
        known, whole = (sorted(one for one in all_ if not math.isnan(one)) for all_ in (self.seconds, self.whole))
        times = (
            (f"{statistics.median(known):.1f}", f"{known[-1]:.1f}", f"{whole[-1]:.1f}")
            if known and whole
            else ("",) * 3
        )
        return [self.fault, *(f"{one:,}" for one in numbers), *times]


def lines(outcome: Outcome) -> list[Line]:
    """The table's lines, in the order of their names; the last line is the sum."""
    found: dict[str, Line] = {}
    for name, begins, ends, episode in _windows(outcome):
        line = found.setdefault(name, Line(name))
        line.times += name != QUIET
        if episode:
            line.seconds.append(episode.seconds)
            line.whole.append(episode.whole)
        for letter, end in ends.items():
            _count(line, outcome.accounts, letter, range(begins[letter], max(end, begins[letter])))
    total = Line("all")
    for line in found.values():
        for name in ("times", "sent", "stored", "dead", "lost", "duplicated"):
            setattr(total, name, getattr(total, name) + getattr(line, name))
        total.seconds += line.seconds
        total.whole += line.whole
    return [*sorted(found.values(), key=lambda line: (line.fault != QUIET, line.fault)), total]


def _windows(outcome: Outcome) -> Iterator[tuple[str, dict[str, int], dict[str, int], Episode | None]]:
    """(name, first message of each stream, first message of the next window, the fault's episode)."""
    begins = [*(episode.begins for episode in outcome.episodes), outcome.ends]
    yield QUIET, dict.fromkeys(outcome.ends, 0), begins[0], None
    for episode, after in zip(outcome.episodes, begins[1:], strict=True):
        yield episode.name, episode.begins, after, episode


def _count(line: Line, accounts: Accounts, letter: str, numbers: Iterable[int]) -> None:
    rows, letters = accounts.rows[letter], accounts.letters[letter]
    for n in numbers:
        line.sent += 1
        line.stored += rows[n] > 0
        line.dead += letters[n] > 0
        line.lost += not rows[n] and not letters[n]
        line.duplicated += rows[n] + letters[n] > 1


def table(outcome: Outcome) -> str:
    """The table in Markdown, with aligned columns."""
    cells = [list(COLUMNS), *(line.cells() for line in lines(outcome))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    rows = []
    for number, row in enumerate(cells):
        aligned = [
            cell.ljust(width) if not at else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        rows.append(f"| {' | '.join(aligned)} |")
        if number == 0:
            rows.append(
                "|" + "|".join("-" * (width + 1) + ("-" if not at else ":") for at, width in enumerate(widths)) + "|"
            )
    return "\n".join(rows)


def summary(outcome: Outcome) -> str:
    """The figures that are not in the table, and the verdict."""
    accounts = outcome.accounts
    kafka, mqtt = accounts.kafka, accounts.mqtt
    said = [
        f"seed {outcome.seed}, {outcome.took / 60:.1f} minutes. Recovered (median, max): in every partition, a message",
        "sent after the fault is a row; after kill -9 of a worker counted from the kill on, else from the end of the",
        "fault. Whole (max): all programs are ready, rebalances are over and rows flow.",
        f"alerts: {mqtt.episodes:,} episodes expected, {mqtt.seen:,} received over MQTT, "
        f"{kafka.doubled + mqtt.doubled} doubled, {kafka.lost + mqtt.lost} messages lost",
        f"alert messages repeated with the same (alert_id, status): {kafka.repeats} in Kafka, {mqtt.repeats} over MQTT",
        f"dead letters caused by outages: {accounts.dead_good}",
        f"messages that MQTT delivered again, stored once: {outcome.repeats:,}",
    ]
    if outcome.sinks:
        again = ", ".join(f"{name} {count:,}" for name, count in outcome.sinks.items())
        said.append(f"sinks, and what their destinations were given again: {again}")
    broken = outcome.broken
    said += [f"BROKEN: {one}" for one in broken] or ["every promise is kept"]
    return "\n".join(said)


def machine(outcome: Outcome) -> dict[str, Any]:
    """All figures of the run, for json.dumps."""
    accounts = outcome.accounts
    return {
        "seed": outcome.seed,
        "seconds": round(outcome.took, 1),
        "broken": outcome.broken,
        "lines": [asdict(line) for line in lines(outcome)],
        "alerts": {"kafka": asdict(accounts.kafka), "mqtt": asdict(accounts.mqtt)},
        "dead_letters_caused_by_outages": accounts.dead_good,
        "mqtt_repeats": outcome.repeats,
        "sinks_repeats": outcome.sinks,
        "faults": [_episode(episode) for episode in outcome.episodes],
    }


def _episode(episode: Episode) -> dict[str, Any]:
    return {
        "faults": [{"fault": str(one.kind), "seconds": one.seconds, "lot": one.lot} for one in episode.faults],
        "first_message": episode.begins,
        "whole_in": None if math.isnan(episode.whole) else round(episode.whole, 2),
        "recovered_in": None if math.isnan(episode.seconds) else round(episode.seconds, 2),
        "limit": None if math.isinf(episode.limit) else round(episode.limit, 2),
    }
