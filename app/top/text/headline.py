"""The lines above the tables: a Snapshot in; out, short pieces of text, each with how bad it is, packed into lines."""

from collections.abc import Sequence
from typing import NamedTuple

from app.top.model.snapshot import Snapshot
from app.top.text import words
from app.top.text.tone import Tone

GAP = "  "
LATE_SECONDS = 10.0  # of lag; from then on the lag is marked


class Piece(NamedTuple):
    """A name and its value."""

    name: str
    value: str
    tone: Tone = Tone.PLAIN

    def __str__(self) -> str:
        return f"{self.name} {self.value}".strip()


def heads(snapshot: Snapshot) -> list[list[Piece]]:
    """The pieces above the tables: totals, books, troubles; each list begins a line."""
    return [pieces(snapshot), books(snapshot) + counts(snapshot), troubles(snapshot)]


def pieces(snapshot: Snapshot) -> list[Piece]:
    """The totals of a deployment, in the order in which they are shown."""
    totals = snapshot.totals
    lag = words.count(totals.lag)
    if totals.lag_seconds is not None:
        lag += f" ({words.seconds(totals.lag_seconds)})"
    late = (totals.lag_seconds or 0.0) > LATE_SECONDS
    breaker = {"closed": Tone.GOOD, "half-open": Tone.WARNING, "open": Tone.BAD}.get(totals.breaker, Tone.PLAIN)
    return [
        Piece("rows/s", words.rate(totals.rows_per_second)),
        Piece("in/s", words.rate(totals.messages_per_second)),
        Piece("lag", lag, Tone.WARNING if late else Tone.PLAIN),
        Piece("age p50", words.seconds(totals.age_p50)),
        Piece("p99", words.seconds(totals.age_p99)),
        Piece("breaker", totals.breaker.upper() if breaker is Tone.BAD else totals.breaker or words.UNKNOWN, breaker),
        Piece("dead letters/h", words.count(totals.dead_letters_per_hour), _some(totals.dead_letters_per_hour)),
        Piece("open alerts", words.count(totals.open_alerts)),
        Piece("online", words.count(totals.devices_online)),
    ]


def books(snapshot: Snapshot) -> list[Piece]:
    """received = rows + carried out + duplicate + dead + dropped, and what is missing."""
    one = snapshot.books
    return [
        Piece("received", words.whole(one.received)),
        Piece("= rows", words.whole(one.rows)),
        Piece("+ carried", words.whole(one.carried_out)),
        Piece("+ dup", words.whole(one.duplicate)),
        Piece("+ dead", words.whole(one.dead_lettered)),
        Piece("+ dropped", words.whole(one.dropped)),
        Piece("difference", words.whole(one.difference), Tone.BAD if one.difference else Tone.GOOD),
    ]


def counts(snapshot: Snapshot) -> list[Piece]:
    """Dead letters by reason, and alert events by status, without those that count 0."""
    dead = [Piece(reason, words.count(count), Tone.WARNING) for reason, count in snapshot.dead_letters.items()]
    return dead + [Piece(status, words.count(count)) for status, count in snapshot.alert_events.items()]


def troubles(snapshot: Snapshot) -> list[Piece]:
    """What is down or not ready, in words."""
    down = [Piece(f"{row.name} down:", row.problem, Tone.BAD) for row in snapshot.programs if not row.up]
    missing = [Piece(row.name, row.problem, Tone.WARNING) for row in snapshot.programs if row.up and row.problem]
    return down + missing + [Piece("", problem, Tone.WARNING) for problem in snapshot.problems]


def packed(parts: Sequence[Piece], width: int) -> list[list[Piece]]:
    """The pieces in as few lines of `width` characters as hold them, in order, none torn apart."""
    lines: list[list[Piece]] = []
    room = 0
    for part in parts:
        need = len(str(part)) + len(GAP)
        if not lines or need > room:
            lines.append([])
            room = width + len(GAP)
        lines[-1].append(part)
        room -= need
    return lines


def _some(number: float | None) -> Tone:
    return Tone.WARNING if number else Tone.PLAIN
