"""What an export has written, for a person: the summary in; lines of text out."""

from collections.abc import Iterator

from app.history.exporting.export import ExportSummary


def export_lines(found: ExportSummary) -> Iterator[str]:
    """The summary, line by line."""
    counts = found.counts
    files = f"{len(found.files):,} file{'' if len(found.files) == 1 else 's'}"
    yield f"{counts.rows:,} rows of {counts.records:,} records in {files}: {found.output}"
    for reason, count in sorted(counts.refused.items()):
        yield f"  not written: {reason:<22} {count:>12,}  dead letters"
    for policy, count in sorted(counts.left_out.items()):
        yield f"  left out: {policy:<25} {count:>12,}"
    for name, count in (("no readings", counts.carried_out), ("of other users", counts.not_asked)):
        if count:
            yield f"  {name:<35} {count:>12,}"


def export_notes(found: ExportSummary) -> Iterator[str]:
    """What to do next, and what is not in the files."""
    if found.counts.gone:
        yield f"{found.counts.gone:,} offsets of the range were removed by retention before they were read"
    if found.before:
        yield "every file was there already: to export what has come since, name another directory"
    if found.interrupted and found.files:
        yield f"interrupted; {found.parts_left:,} of {found.parts:,} files are left: the same command goes on"
    elif found.interrupted:
        yield "interrupted; nothing is written: the same command begins again"


def export_progress(done: int, whole: int, rows: int, seconds: float) -> str:
    """How far it is, on one line."""
    rate = done / seconds if seconds else 0.0
    left = f", {(whole - done) / rate:,.0f} s left" if rate and whole > done else ""
    of = f" of {whole:,}" if whole else ""
    return f"{done:,}{of} records, {rate:,.0f}/s, {rows:,} rows{left}"
