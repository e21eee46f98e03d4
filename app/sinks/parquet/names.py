"""The names of files: topic, partition and offsets in a name, by day; and where what is not yet a file stands.

    day=2026-11-30/iot-stream-1f0c2b7a-3-000000000100-000000000199.parquet    rows of one day, of offsets 100 to 199
    day=2026-11-30/iot-stream-1f0c2b7a-3-000000000100-000000009999.merged.parquet    of several such files, merged
    _claims/iot-stream-1f0c2b7a/3/00000000000000000100.json                   who wrote from offset 100 on, and what
    _claims/iot-stream-1f0c2b7a/3/cut.json    the log has lost its end: what follows has other digits
    _staging/iot-stream-1f0c2b7a/3/00000000000000000100-9be1c04d-2026-11-30.tmp    not published yet

1f0c2b7a stands for the topic that had the name when the file was written: one that is made anew begins at offset 0
again, and so do the claims of a partition whose log has lost its end. Readers leave out what begins with an underscore,
or does not end in .parquet.
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
    """A partition of a topic, as it stands in names."""

    topic: str
    tag: str  # of the topic that had this name then
    partition: int

    @property
    def claims(self) -> str:
        """The directory of its claims."""
        return f"{CLAIMS}/{self.topic}-{self.tag}/{self.partition}"

    @property
    def after_cut(self) -> "LakePartition":
        """The same partition, once its log has lost its end: offsets are those of other records from then on."""
        return self._replace(tag=tag_of(f"{self.tag}, cut"))

    @property
    def staging(self) -> str:
        """The directory of its staged files."""
        return f"{STAGING}/{self.topic}-{self.tag}/{self.partition}"


class FileName(NamedTuple):
    """What the name of a published file says."""

    folder: str  # day=2026-11-30
    origin: LakePartition
    first: int  # offset of its first row
    last: int  # and of its last
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
    """The directory of the files of a day, 2026-11-30: one in UTC on which readings were taken."""
    return f"day={day}"


def parsed(path: str) -> FileName | None:
    """What a path relative to the root says; None for what is no published file of ours."""
    found = _NAME.fullmatch(path)
    if found is None:
        return None
    origin = LakePartition(found["topic"], found["tag"], int(found["partition"]))
    return FileName(found["folder"], origin, int(found["first"]), int(found["last"]), bool(found["merged"]))


def claim_path(origin: LakePartition, start: int) -> str:
    """Where the claim on the offsets from `start` on stands."""
    return f"{origin.claims}/{start:020d}.json"


def cut_path(origin: LakePartition) -> str:
    """Where it says that the log of a partition has lost its end."""
    return f"{origin.claims}/cut.json"


def staging_of(origin: LakePartition, start: int, writer: str) -> str:
    """What the paths of all that `writer` has staged of the offsets from `start` on begin with."""
    return f"{origin.staging}/{start:020d}-{writer}-"


def start_of(path: str) -> int | None:
    """The offset that a claim or a staged file is from, by its path; None for another file."""
    parts = path.split("/")
    number = _DIGITS.match(parts[3]) if len(parts) > 3 and parts[0] in (CLAIMS, STAGING) else None
    return int(number[1]) if number else None
