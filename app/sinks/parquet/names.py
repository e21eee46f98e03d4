"""The names of files: topic, partition and offsets in a name, by day; and the paths of claims and staged files.

    day=2026-11-30/iot-stream-1f0c2b7a-3-000000000100-000000000199.parquet    rows of one day, of offsets 100 to 199
    day=2026-11-30/iot-stream-1f0c2b7a-3-000000000100-000000009999.merged.parquet    of several such files, merged
    _claims/iot-stream-1f0c2b7a/3/00000000000000000100.json                   writer and files from offset 100 on
    _claims/iot-stream-1f0c2b7a/3/cut.json    the log was truncated: later files have another tag
    _staging/iot-stream-1f0c2b7a/3/00000000000000000100-9be1c04d-2026-11-30.tmp    not published yet

The tag 1f0c2b7a identifies the topic that had the name when the file was written: the offsets of a recreated topic
begin at 0 again, and so do the claims of a partition whose log was truncated. Readers ignore names that begin with an
underscore or do not end in .parquet.
"""

import re
from typing import NamedTuple

from xxhash import xxh3_64_hexdigest

CLAIMS, STAGING = "_claims", "_staging"
_NAME = re.compile(
    r"(?P<folder>day=\d{4}-\d\d-\d\d)/(?P<topic>[\w.-]+)-(?P<tag>[0-9a-f]{8})-(?P<partition>\d+)-(?P<first>\d+)"
    r"-(?P<last>\d+)(?P<merged>\.merged)?\.parquet"
)
_DIGITS = re.compile(r"(\d+)")


class LakePartition(NamedTuple):
    """A partition of a topic, as in the names of files."""

    topic: str
    tag: str  # of the topic that had this name when the file was written
    partition: int

    @property
    def claims(self) -> str:
        """The directory of its claims."""
        return f"{CLAIMS}/{self.topic}-{self.tag}/{self.partition}"

    @property
    def after_cut(self) -> "LakePartition":
        """The same partition after its log was truncated, as later offsets belong to other records."""
        return self._replace(tag=tag_of(f"{self.tag}, cut"))

    @property
    def staging(self) -> str:
        """The directory of its staged files."""
        return f"{STAGING}/{self.topic}-{self.tag}/{self.partition}"


class FileName(NamedTuple):
    """The parts of the name of a published file."""

    folder: str  # day=2026-11-30
    origin: LakePartition
    first: int  # offset of its first row
    last: int  # offset of its last row
    merged: bool

    @property
    def path(self) -> str:
        """Relative to the lake's root."""
        topic, tag, partition = self.origin
        end = ".merged.parquet" if self.merged else ".parquet"
        return f"{self.folder}/{topic}-{tag}-{partition}-{self.first:012d}-{self.last:012d}{end}"


def tag_of(identity: str) -> str:
    """Eight hex digits for the id of a topic."""
    return xxh3_64_hexdigest(identity.encode())[:8]


def folder_of(day: str) -> str:
    """The directory of the files of a day, 2026-11-30: the UTC day of the readings."""
    return f"day={day}"


def parsed(path: str) -> FileName | None:
    """The name of a published file at a path relative to the root; None for any other file."""
    found = _NAME.fullmatch(path)
    if found is None:
        return None
    origin = LakePartition(found["topic"], found["tag"], int(found["partition"]))
    return FileName(found["folder"], origin, int(found["first"]), int(found["last"]), bool(found["merged"]))


def claim_path(origin: LakePartition, start: int) -> str:
    """The path of the claim from the offset `start` on."""
    return f"{origin.claims}/{start:020d}.json"


def cut_path(origin: LakePartition) -> str:
    """The path of the note that the log of a partition was truncated."""
    return f"{origin.claims}/cut.json"


def staging_of(origin: LakePartition, start: int, writer: str) -> str:
    """The prefix of the paths of the files that `writer` has staged from the offset `start` on."""
    return f"{origin.staging}/{start:020d}-{writer}-"


def start_of(path: str) -> int | None:
    """The first offset of a claim or a staged file, by its path; None for any other file."""
    parts = path.split("/")
    number = _DIGITS.match(parts[3]) if len(parts) > 3 and parts[0] in (CLAIMS, STAGING) else None
    return int(number[1]) if number else None
