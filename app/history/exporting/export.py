"""History into files: in, what was asked for; out, CSV or Parquet, one file or one for each part.

One file is complete or not there. A directory has a manifest beside the files: the same command goes on, part by part,
where an export was interrupted.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct, field

from app.core.model.arrival import moment_of
from app.core.model.times import MICROSECOND
from app.errors import PermanentError
from app.history.exporting.plan import (
    MANIFEST,
    ExportCounts,
    ExportManifest,
    ExportPart,
    parts_of_table,
    parts_of_topic,
    read_manifest,
)
from app.history.exporting.readings_file import Opened
from app.history.exporting.rows import opener, replace_file, whole_file
from app.history.exporting.source import ExportSource, TableSource, TopicSource
from app.history.table_at_hand import TableAtHand, table_at_hand
from app.kafka.access import access
from app.kafka.reading.offset_ranges import PartOfTopic, offsets_of
from app.kafka.reading.record_log import RecordLog, record_log
from app.postgres.queries.telemetry_rows import TABLE
from app.settings import Settings


class ExportOrigin(StrEnum):
    """What is exported."""

    TOPIC = "topic"  # the records of the input topic, decoded
    TABLE = "table"  # the rows that are stored


class ExportRequest(Struct, frozen=True):
    """What an export was asked for."""

    output: Path
    suffix: str  # .csv or .parquet
    into_parts: bool  # whether `output` is a directory
    part: PartOfTopic  # of a table its times alone, as event times
    words: Mapping[str, object]  # the options as they were given
    user: str | None = None
    origin: ExportOrigin = ExportOrigin.TOPIC
    table: str = TABLE


class ExportSummary(Struct):
    """What an export has written."""

    output: str
    counts: ExportCounts = field(default_factory=ExportCounts)
    files: list[str] = field(default_factory=list)
    parts: int = 0
    parts_left: int = 0
    before: bool = False  # whether everything was there when the command began
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """All of it as built-in types."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {**found.pop("counts"), **found}


class ExportWatch(Protocol):
    """Who watches an export."""

    def begins(self, whole: int) -> None:
        """It begins; so many offsets are to be read, of a table 0: nobody knows."""

    def read(self, done: int, rows: int) -> None:
        """So many records were read by now, and so many rows written."""

    @property
    def stopped(self) -> bool:
        """Whether to end: the file at hand is not to be there."""


class _Export:
    """One run of an export."""

    def __init__(self, asked: ExportRequest, source: ExportSource, opened: Opened, watch: ExportWatch) -> None:
        self._asked, self._source, self._opened, self._watch = asked, source, opened, watch
        self._records = self._rows = 0  # of the parts that this run has written

    async def one_file(self, parts: Sequence[ExportPart]) -> ExportSummary:
        """Write all parts into one file. Stopped, there is no file."""
        asked = self._asked
        self._watch.begins(self._whole(parts))
        counts = await self._write(asked.output, parts)
        if counts is None:
            return ExportSummary(str(asked.output), parts=1, parts_left=1, interrupted=True)
        return ExportSummary(str(asked.output), counts, [asked.output.name], 1)

    async def many_files(self, manifest: ExportManifest) -> ExportSummary:
        """Write a file for each part that is not there yet. Stopped, the files that are complete stay."""
        folder, left = self._asked.output, manifest.left()
        summary = ExportSummary(str(folder), parts=len(manifest.parts), before=not left)
        self._watch.begins(self._whole(left))
        for part in left:
            path = folder / f"{part.name}{manifest.suffix}"
            counts = await self._write(path, [part])
            if counts is None:
                summary.interrupted = True
                break
            if not counts.rows:
                path.unlink()
            manifest.done[part.name] = counts
            _keep(folder, manifest)
        summary.counts, summary.files = manifest.counts(), manifest.files()
        summary.parts_left = len(manifest.left())
        return summary

    async def _write(self, path: Path, parts: Sequence[ExportPart]) -> ExportCounts | None:
        """Write a file; None: stopped."""
        counts = ExportCounts()
        with whole_file(path, self._opened) as file:
            for part in parts:
                async for found in self._source.read(part, counts):
                    file.rows.write(found)
                    counts.rows += len(found.readings)
                    self._watch.read(self._records + counts.records, self._rows + counts.rows)
                    if self._watch.stopped:
                        file.wanted = False
                        return None
        self._records, self._rows = self._records + counts.records, self._rows + counts.rows
        return counts

    def _whole(self, parts: Sequence[ExportPart]) -> int:
        return sum(part.end - part.first for part in parts) if self._asked.origin is ExportOrigin.TOPIC else 0


async def export(settings: Settings, asked: ExportRequest, watch: ExportWatch) -> ExportSummary:
    """Write the files. Raises TransientError when a server is away, PermanentError when it refuses, when a file cannot
    be written, or when the directory has another export; PartError for a partition that the topic does not have.
    """
    opened = opener(settings, asked.suffix, origin=asked.origin is ExportOrigin.TOPIC)
    manifest = _manifest(asked) if asked.into_parts else None
    match asked.origin:
        case ExportOrigin.TOPIC:
            async with record_log(access(settings), settings.kafka_topic) as log:
                run = _Export(asked, TopicSource(settings, log, asked.user), opened, watch)
                return await _run(run, asked, manifest, lambda: _topic_parts(log, asked, settings.kafka_topic))
        case ExportOrigin.TABLE:
            async with table_at_hand(settings, asked.table) as table:
                run = _Export(asked, TableSource(table, settings.telemetry_schema, asked.user), opened, watch)
                return await _run(run, asked, manifest, lambda: _table_parts(table, asked))


async def _run(
    run: _Export,
    asked: ExportRequest,
    manifest: ExportManifest | None,
    parts: Callable[[], Awaitable[list[ExportPart]]],
) -> ExportSummary:
    if not asked.into_parts:
        return await run.one_file(await parts())
    if manifest is None:
        manifest = ExportManifest(asked.words, asked.suffix, await parts())
        _keep(asked.output, manifest)
    return await run.many_files(manifest)


async def _topic_parts(log: RecordLog, asked: ExportRequest, topic: str) -> list[ExportPart]:
    ranges = {tp.partition: found for tp, found in (await offsets_of(log, asked.part)).items()}
    return parts_of_topic(topic, ranges, whole=not asked.into_parts)


async def _table_parts(table: TableAtHand, asked: ExportRequest) -> list[ExportPart]:
    since_ms, until_ms = asked.part.since_ms, asked.part.until_ms
    span = await table.span(asked.user)
    if span is None:
        return []
    begin = span[0] if since_ms is None else max(span[0], moment_of(since_ms))
    end = span[1] if until_ms is None else min(span[1], moment_of(until_ms))
    return parts_of_table(asked.table, begin, end + MICROSECOND, whole=not asked.into_parts)


def _manifest(asked: ExportRequest) -> ExportManifest | None:
    """The manifest of the same command in the directory, which is made; None: it begins. Raises PermanentError."""
    folder, path = asked.output, asked.output / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return None
        content = path.read_bytes()
    except OSError as error:
        raise PermanentError(f"cannot use the directory {folder}: {error.strerror or error}") from error
    found = read_manifest(content, str(path))
    if dict(found.asked) != dict(asked.words) or found.suffix != asked.suffix:
        given = " ".join(f"{name}={value}" for name, value in found.asked.items())
        raise PermanentError(f"{folder} has another export ({given}): name another directory, or remove this one")
    return found


def _keep(folder: Path, manifest: ExportManifest) -> None:
    replace_file(folder / MANIFEST, msgspec.json.encode(manifest) + b"\n")
