"""`iot-stream history export`: a part of the input topic, or rows, as CSV or Parquet."""

import asyncio
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app.cli.history import selecting
from app.cli.history.verify import checked
from app.cli.options import escape_unencodable, quiet, say
from app.cli.progress import Show, progress
from app.cli.render.export import export_lines, export_notes, export_progress
from app.cli.stopping import interruptible, until_stopped
from app.history.exporting.export import ExportOrigin, ExportRequest, ExportSummary
from app.history.exporting.export import export as exported
from app.inspect.text import json_line
from app.kafka.reading.offset_ranges import PartError
from app.ops.audit import audited
from app.postgres.queries.telemetry_rows import TABLE
from app.settings import Settings, load

SUFFIXES = {"parquet": ".parquet", "csv": ".csv"}

Output = Annotated[
    str, typer.Option("--output", "-o", help="File to write; a directory, or a name that ends in /: one file a part.")
]
Origin = Annotated[
    ExportOrigin, typer.Option("--from", help="Records of the input topic, decoded, or the rows of the table.")
]
Format = Annotated[str | None, typer.Option("--format", help="parquet or csv. [by the suffix of the file]")]
User = Annotated[str | None, typer.Option("--user", help="Readings of this user (or node) alone.")]
Table = Annotated[str, typer.Option("--table", help="The table of --from table, with or without its schema.")]


def export(
    output: Output,
    origin: Origin = ExportOrigin.TOPIC,
    file_format: Format = None,
    since: selecting.Since = None,
    until: selecting.Until = None,
    offset: selecting.Offsets = None,
    partition: selecting.Partitions = None,
    user: User = None,
    table: Table = TABLE,
    as_json: selecting.AsJson = False,
) -> None:
    """Write readings into files: records of the input topic, decoded as a worker decodes them, or rows.

    A file is complete or not there. Into a directory, the same command goes on where it was ended.

    Example: iot-stream history export --since 24h --output yesterday.parquet
    """
    if not output:
        raise typer.BadParameter("name a file or a directory", param_hint="--output")
    place = Path(output)
    into_parts = output.endswith("/") or place.is_dir()
    suffix = _suffix(place, file_format, into_parts)
    part = selecting.part_of_topic(partition, offset, since, until)
    if origin is ExportOrigin.TABLE and (partition or offset):
        raise typer.BadParameter("rows have no offsets: use --since and --until", param_hint="--from table")
    checked(table, user)
    quiet()
    settings = load()
    words = {**selecting.words(partition, offset, since, until), "from": origin.value, "user": user}
    words["source"] = settings.kafka_topic if origin is ExportOrigin.TOPIC else table
    words["columns"] = settings.telemetry_schema.name
    asked = ExportRequest(place, suffix, into_parts, part, words, user, origin, table)
    raise typer.Exit(_run(settings, asked, as_json))


def _run(settings: Settings, asked: ExportRequest, as_json: bool) -> int:
    """Write the files, say so, and return the exit code."""
    try:
        found = asyncio.run(_exported(settings, asked))
    except PartError as error:
        raise typer.BadParameter(str(error), param_hint="--partition or --offset") from None
    escape_unencodable()
    if as_json:
        print(json_line(found.as_json()))
    elif found.files or not found.interrupted:
        print(*export_lines(found), sep="\n")
    for note in export_notes(found):
        say(f"iot-stream: {note}")
    return 130 if found.interrupted else 0


def _suffix(output: Path, file_format: str | None, into_parts: bool) -> str:
    """The suffix of the files. Raises BadParameter."""
    choices = " or ".join(SUFFIXES)
    if file_format is not None:
        if file_format not in SUFFIXES:
            raise typer.BadParameter(f"there is no {file_format!r}: choose {choices}", param_hint="--format")
        suffix = SUFFIXES[file_format]
        if not into_parts and output.suffix in SUFFIXES.values() and output.suffix != suffix:
            raise typer.BadParameter(f"{output.name} is to be {file_format}: name it {suffix}", param_hint="--format")
        return suffix
    if into_parts:
        return SUFFIXES["parquet"]
    if output.suffix not in SUFFIXES.values():
        what = f"{output.name} ends neither in .parquet nor in .csv: give --format {choices}"
        raise typer.BadParameter(what, param_hint="--output")
    return output.suffix


async def _exported(settings: Settings, asked: ExportRequest) -> ExportSummary:
    async with audited(settings, "history export", {**asked.words, "output": str(asked.output)}) as audit:
        with interruptible() as stop, ExitStack() as bars:
            screen = _ExportScreen(stop, bars)
            try:
                found = await until_stopped(exported(settings, asked, screen), stop, lambda: screen.begun)
            finally:
                audit.outcome = "interrupted" if stop.is_set() else audit.outcome
        audit.counts = {"rows": found.counts.rows, "files": len(found.files)}
        audit.outcome = "interrupted" if found.interrupted else "done"
    return found


class _ExportScreen:
    """Shows how far an export is; the first Ctrl-C ends it in order."""

    def __init__(self, stop: asyncio.Event, bars: ExitStack) -> None:
        self._stop, self._bars, self._whole = stop, bars, 0
        self._show: Show | None = None

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def begun(self) -> bool:
        """Whether something is read."""
        return self._show is not None

    def begins(self, whole: int) -> None:
        self._whole = whole
        self._show = self._bars.enter_context(progress(whole))

    def read(self, done: int, rows: int) -> None:
        if self._show is not None:
            self._show(max(0, self._whole - done), partial(export_progress, done, self._whole, rows))
