"""What a verification has found: counts and examples in; out, the verdict, and all of it for a machine. Pure."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct, field

EXAMPLES = 5
T = TypeVar("T")


class MissingRecord(Struct, frozen=True):
    """A record that is neither a row nor a dead letter, nor left out by a policy."""

    partition: int
    offset: int
    wanted: str  # "row", or "dead letter"
    what: str  # its reading, or what is wrong with it


class ExtraRow(Struct, frozen=True):
    """A row that no record of the topic has made."""

    time: str  # RFC 3339, in UTC
    user_id: str
    device_id: str
    sequence_id: int


class ExampleList(Struct, Generic[T]):
    """How many there are of something, and the first few."""

    count: int = 0
    examples: list[T] = field(default_factory=list)

    def add(self, one: T, most: int) -> None:
        """Count one more; up to `most` are kept."""
        self.count += 1
        if len(self.examples) < most:
            self.examples.append(one)


class VerifyVerdict(StrEnum):
    """How a verification ended."""

    COMPLETE = "complete"
    MISSING = "missing"
    INTERRUPTED = "interrupted"


class VerifyLedger(Struct):
    """Every record of the range is in one of the counts, which `balances` asks. `rows` are records whose row is there,
    `repeats` those of them whose row an earlier record of the range has made.
    """

    topic: str
    group: str | None  # whose commits end the range; None: the range was not ended by commits
    table: str
    user: str | None = None
    begin: dict[int, int] = field(default_factory=dict)  # by partition: the first offset of the range
    end: dict[int, int] = field(default_factory=dict)  # the offset behind the range
    at: dict[int, int] = field(default_factory=dict)  # the offset behind the last record that was looked at
    records: int = 0
    not_asked: int = 0  # records of other users than the one that was asked for
    rows: int = 0
    repeats: int = 0
    redelivered: int = 0  # messages without a time that MQTT delivered twice: their row has the first time
    dead: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # by policy
    carried_out: int = 0
    expired: int = 0  # older than the retention of the table
    letters_gone: int = 0  # must be dead letters of before the oldest one that Kafka still has
    doubtful: ExampleList[MissingRecord] = field(default_factory=ExampleList)
    missing: ExampleList[MissingRecord] = field(default_factory=ExampleList)
    first_missing: dict[int, int] = field(default_factory=dict)  # by partition: the lowest offset
    waiting: int = 0  # offsets of the range that the group has not committed yet
    extra: ExampleList[ExtraRow] | None = None  # None: nobody looked for extra rows
    extra_since: str | None = None  # event times from then on were looked at, RFC 3339
    interrupted: bool = False

    @property
    def verdict(self) -> VerifyVerdict:
        """Whether all that was looked at is where it must be. Missing records are known, however much is left."""
        if self.missing.count:
            return VerifyVerdict.MISSING
        return VerifyVerdict.INTERRUPTED if self.interrupted else VerifyVerdict.COMPLETE

    @property
    def balances(self) -> bool:
        """Whether each record is in one count."""
        found = self.not_asked + self.rows + self.redelivered + self.dead + self.dropped.total() + self.carried_out
        found += self.expired + self.letters_gone + self.doubtful.count + self.missing.count
        return found == self.records

    def lose(self, one: MissingRecord, most: int) -> None:
        """Count a missing record."""
        self.missing.add(one, most)
        first = self.first_missing.get(one.partition, one.offset)
        self.first_missing[one.partition] = min(first, one.offset)

    def left(self) -> Sequence[str]:
        """The values of --offset with which a command goes on where this one was interrupted."""
        return [
            f"{partition}:{at}-{self.end[partition] - 1}"
            for partition, at in sorted(self.at.items())
            if at < self.end[partition]
        ]

    def as_json(self) -> dict[str, Any]:
        """All of it as built-in types."""
        found: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return {"verdict": self.verdict.value, **found}
