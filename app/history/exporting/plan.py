"""An export in parts: in, offsets or times; out, the parts, one file each, and the manifest by which an export goes on.

The manifest fixes the parts when an export begins: the same command, given again, writes the files that are not there
yet, whatever has come into the topic since. Pure.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct, field

from app.core.model.times import micros
from app.errors import PermanentError
from app.kafka.reading.offset_ranges import PartitionRange

MANIFEST = "export.json"
PART_OFFSETS = 1_000_000  # offsets of a file
DAY = timedelta(days=1)


class ExportPart(Struct, frozen=True):
    """What one file has: offsets of a partition from `first` up to, not including, `end`; of a table (partition -1)
    times, as microseconds since 1970, likewise.
    """

    name: str  # of the file, without its suffix
    partition: int
    first: int
    end: int


class ExportCounts(Struct):
    """Numbers of records, and of rows written."""

    records: int = 0  # read from the topic; of a table, rows
    rows: int = 0
    not_asked: int = 0  # of other users than the one that was asked for
    refused: dict[str, int] = field(default_factory=dict)  # by reason: a worker makes dead letters of them
    left_out: dict[str, int] = field(default_factory=dict)  # by policy
    carried_out: int = 0  # statuses, configurations and commands, which leave no row
    gone: int = 0  # offsets that retention took before they were read

    def add(self, more: "ExportCounts") -> None:
        """Count what another part has."""
        for name in ("records", "rows", "not_asked", "carried_out", "gone"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        for mine, theirs in ((self.refused, more.refused), (self.left_out, more.left_out)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count


class ExportManifest(Struct):
    """The file beside the parts of an export."""

    asked: Mapping[str, object]  # of the command, as it was given
    suffix: str  # of the files
    parts: Sequence[ExportPart]
    done: dict[str, ExportCounts] = field(default_factory=dict)  # by the name of a part

    @property
    def complete(self) -> bool:
        """Whether every part is written."""
        return len(self.done) == len(self.parts)

    def left(self) -> list[ExportPart]:
        """The parts that are not written, in their order."""
        return [part for part in self.parts if part.name not in self.done]

    def counts(self) -> ExportCounts:
        """The sum of what is written."""
        found = ExportCounts()
        for one in self.done.values():
            found.add(one)
        return found

    def files(self) -> list[str]:
        """The names of the files that are written; a part without a row has none."""
        return [f"{part.name}{self.suffix}" for part in self.parts if (one := self.done.get(part.name)) and one.rows]


def read_manifest(content: bytes, where: str) -> ExportManifest:
    """The manifest in a file. Raises PermanentError when it is none."""
    try:
        return msgspec.json.decode(content, type=ExportManifest)
    except msgspec.MsgspecError as error:
        raise PermanentError(f"{where} is no manifest of an export: {error}; name another directory") from None


def parts_of_topic(
    topic: str, ranges: Mapping[int, PartitionRange], size: int = PART_OFFSETS, *, whole: bool = False
) -> list[ExportPart]:
    """Parts of `size` offsets, cut at multiples of `size`; `whole`: one part for each partition."""
    found = []
    for partition, part in sorted(ranges.items()):
        first = part.begin
        while first < part.end:
            end = part.end if whole else min(part.end, (first // size + 1) * size)
            name = f"{topic}-{partition:05}-{first:012}-{end - 1:012}"
            found.append(ExportPart(name, partition, first, end))
            first = end
    return found


def parts_of_table(table: str, begin: datetime, end: datetime, *, whole: bool = False) -> list[ExportPart]:
    """A part for each day, in UTC, from `begin` up to, not including, `end`; `whole`: one part."""
    found, first = [], begin.astimezone(UTC)
    while first < end:
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
        last = end if whole else min(end, midnight)
        found.append(ExportPart(f"{table}-{first:%Y-%m-%d}", -1, micros(first), micros(last)))
        first = last
    return found
