"""What a check has found, and the ledger of a run: counts in, the verdict out. Pure."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from msgspec import Struct, field

EXAMPLES = 5


class Sought(Struct):
    """Of one kind of thing: how many were found of it, and a few of them by name."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, count: int, examples: Sequence[str]) -> None:
        """Note so many more; not more than EXAMPLES are kept by name."""
        self.count += count
        self.examples += examples[: EXAMPLES - len(self.examples)]


class Findings(Struct):
    """What the database says about the readings of a run, and about the alerts of these."""

    rows: int = 0  # of all devices of the run
    stored: int = 0  # readings with a row
    missing: Sought = field(default_factory=Sought)  # acknowledged by the broker, and there is no row
    doubled: Sought = field(default_factory=Sought)  # one reading, more than one row
    altered: Sought = field(default_factory=Sought)  # rows whose content is not that of the reading
    strange: Sought = field(default_factory=Sought)  # rows of readings that were never sent
    alerts_expected: int | None = None  # None: not judged, as the rules are not the run's own
    alerts_found: int = 0
    alerts_published: int = 0  # acknowledged by the MQTT broker
    alerts_missing: Sought = field(default_factory=Sought)
    alerts_unexpected: Sought = field(default_factory=Sought)  # also one that is there twice
    alerts_unjudged: int = 0  # devices with readings of which it is not known whether they arrived

    @property
    def faults(self) -> Mapping[str, Sought]:
        """What makes a run fail, by name."""
        rows = {"missing": self.missing, "doubled": self.doubled, "altered": self.altered, "never sent": self.strange}
        alerts = {"alerts missing": self.alerts_missing, "alerts unexpected": self.alerts_unexpected}
        return {name: one for name, one in {**rows, **alerts}.items() if one.count}


class LoadVerdict(Enum):
    """How a run ended."""

    COMPLETE = "complete"  # all that was sent is there
    INCOMPLETE = "incomplete"
    UNCHECKED = "unchecked"  # the broker has all of it; nobody has looked into a database
    INTERRUPTED = "interrupted"


class LoadLedger(Struct):
    """A run from its beginning to its end."""

    profile: str
    users: int
    devices: int
    rate: float
    wanted: int  # readings of the whole schedule
    seconds: float  # that sending took
    sent: int
    acked: int
    unanswered: int
    refused: Mapping[str, int]
    nobody: int
    resent: int
    reconnects: int
    cut: int
    late: Mapping[str, float]  # milliseconds, of sending itself
    to_puback: Mapping[str, float]
    to_row: Mapping[str, float]
    findings: Findings | None  # None: there was no database, or no time
    interrupted: bool
    problem: str  # why the database could not be asked at the end; empty: it was, or there is none
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> LoadVerdict:
        """Whether everything is there."""
        if self.interrupted:
            return LoadVerdict.INTERRUPTED
        if self.unanswered or self.refused or self.problem or self.sent < self.wanted:
            return LoadVerdict.INCOMPLETE
        if self.findings:
            return LoadVerdict.INCOMPLETE if self.findings.faults else LoadVerdict.COMPLETE
        return LoadVerdict.INCOMPLETE if self.nobody else LoadVerdict.UNCHECKED

    @property
    def achieved(self) -> float:
        """Readings acknowledged a second."""
        return self.acked / self.seconds if self.seconds else 0.0


def text(ledger: LoadLedger) -> list[str]:
    """The ledger for a person, line by line."""
    lines = [
        f"{ledger.verdict.value}: {ledger.users:,} users, {ledger.devices:,} devices, {ledger.profile}, "
        f"{ledger.rate:,g} messages/s wanted, {ledger.achieved:,.0f} acknowledged over {ledger.seconds:,.1f} s",
        "",
        _line("sent", ledger.sent, f"{ledger.wanted:,} wanted; sent again {ledger.resent:,}"),
        _line("acknowledged", ledger.acked, f"reconnects {ledger.reconnects:,}, cut by the profile {ledger.cut:,}"),
    ]
    lines += [_line("without an answer", ledger.unanswered)] if ledger.unanswered else []
    lines += [_line("refused", count, word) for word, count in ledger.refused.items()]
    if ledger.nobody:
        lines.append(_line("to nobody", ledger.nobody, "nobody subscribed at the broker: does the bridge run?"))
    if ledger.findings:
        lines += _found(ledger.findings)
    lines += ["", f"{'milliseconds':<20} {'p50':>9} {'p90':>9} {'p99':>9} {'p99.9':>9} {'max':>9}"]
    for name, figures in (
        ("due to sent", ledger.late),
        ("due to PUBACK", ledger.to_puback),
        ("due to row", ledger.to_row),
    ):
        if figures["count"]:
            cells = " ".join(f"{figures[key]:>9,.1f}" for key in ("p50", "p90", "p99", "p99.9", "max"))
            lines.append(f"{name:<20} {cells}")
    problem = [f"not checked: {ledger.problem}"] if ledger.problem else []
    return [*lines, *problem, *(f"note: {note}" for note in ledger.notes)]


def _found(found: Findings) -> list[str]:
    lines = [_line("stored", found.stored, f"rows {found.rows:,}")]
    if found.alerts_expected is not None:
        published = f"{found.alerts_expected:,} expected; published over MQTT {found.alerts_published:,}"
        lines.append(_line("alert transitions", found.alerts_found, published))
    lines += [_line(name, one.count, "; ".join(one.examples)) for name, one in found.faults.items()]
    if found.alerts_unjudged:
        lines.append(_line("alerts not judged", found.alerts_unjudged, "devices with unanswered or refused readings"))
    return lines


def _line(name: str, count: int, more: str = "") -> str:
    return f"{name:<20} {count:>12,}  {more}".rstrip()


def as_dict(ledger: LoadLedger) -> dict[str, Any]:
    """The ledger for a machine."""
    found = {name: getattr(ledger, name) for name in ledger.__struct_fields__ if name != "findings"}
    findings = ledger.findings
    inside = None
    if findings:
        inside = {
            name: {"count": one.count, "examples": one.examples} if isinstance(one, Sought) else one
            for name, one in ((name, getattr(findings, name)) for name in findings.__struct_fields__)
        }
    return {"verdict": ledger.verdict.value, "achieved": round(ledger.achieved, 1), **found, "findings": inside}
