"""The findings of the doctor for a person, and for a machine."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from app.cli.render.table import print_table
from app.doctor.finding import Finding, Level, worst

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.BROKEN: "red"}


def as_dict(finding: Finding) -> dict[str, str]:
    """A finding as JSON has it."""
    return {**finding._asdict(), "level": finding.level.name.lower()}


def show(findings: Sequence[Finding]) -> None:
    """Print a table for a person, the worst last, where the eye is."""
    console = Console()
    rows = []
    for finding in sorted(findings, key=lambda one: one.level):
        said = Text(finding.what)
        if finding.cure:
            said.append("\nto do: ", "bold").append(finding.cure)
        rows.append((Text(finding.level.name.lower(), COLOURS[finding.level]), finding.area, said))
    print_table(("level", "area", "what"), rows, console)
    counts = [f"{sum(one.level is level for one in findings)} {level.name.lower()}" for level in Level]
    console.print(f"[{COLOURS[worst(findings)]}]{', '.join(counts)}")
