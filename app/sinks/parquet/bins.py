"""Which files of a lake are merged into one: names and sizes of files in, groups of files out."""

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from msgspec import Struct

from app.sinks.parquet.names import FileName, parsed
from app.sinks.parquet.stored import StoredFile


class LakeFile(Struct, frozen=True):
    """A published file."""

    name: FileName
    size: int  # bytes


class Bin(Struct, frozen=True):
    """Files of one day and one partition, in order of their offsets, that are merged into one file."""

    files: Sequence[LakeFile]
    overlap: bool  # whether two of them may have the same record

    @property
    def target(self) -> FileName:
        """The name of the merged file."""
        first = self.files[0].name
        return FileName(first.folder, first.origin, first.first, max(one.name.last for one in self.files), True)


def lake_files(stored: Sequence[StoredFile], without: Collection[str]) -> list[LakeFile]:
    """The files that may be merged, by day, partition and offset; `without`: paths of files that may not be merged."""
    named = [(parsed(file.path), file) for file in stored if file.path not in without]
    return sorted(
        (LakeFile(name, file.size) for name, file in named if name),
        key=lambda one: (one.name.folder, one.name.origin, one.name.first, one.name.last),
    )


def bins(files: Sequence[LakeFile], most_bytes: int) -> Iterator[Bin]:
    """Groups of two or more files, at most `most_bytes` each; overlapping files are in one group whatever their size.

    A file larger than half of `most_bytes` is left alone: else each new small file would cause it to be rewritten.
    """
    for _, same in groupby(files, lambda one: (one.name.folder, one.name.origin)):
        group: list[LakeFile] = []
        overlap, size, last = False, 0, -1
        for file in same:
            overlaps = bool(group) and file.name.first <= last
            if not overlaps and group and (size + file.size > most_bytes or _large(group, file, most_bytes)):
                yield from _bin(group, overlap)
                group, overlap, size = [], False, 0
            group.append(file)
            overlap, size, last = overlap or overlaps, size + file.size, max(last, file.name.last)
        yield from _bin(group, overlap)


def _large(group: Sequence[LakeFile], file: LakeFile, most_bytes: int) -> bool:
    return max(group[-1].size, file.size) > most_bytes // 2


def _bin(group: Sequence[LakeFile], overlap: bool) -> Iterator[Bin]:
    if len(group) > 1:
        yield Bin(tuple(group), overlap)
