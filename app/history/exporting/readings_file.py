"""The port of the files of an export: in, readings with their places; out, the rows of one file."""

from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol

from msgspec import Struct

from app.core.model.records import Reading

PLACE = ("kafka_partition", "kafka_offset")  # the columns of a reading's origin


class ReadingsAt(Struct, frozen=True):
    """Readings of one partition with their offsets; of a table without (None)."""

    readings: Sequence[Reading]
    partition: int
    offsets: Sequence[int] | None


class ReadingsFile(Protocol):
    """The rows of one file."""

    def write(self, found: ReadingsAt) -> None:
        """Add rows. Raises OSError when the disk is full."""

    def finish(self) -> None:
        """Write what is still buffered. Raises OSError."""

    def abandon(self) -> None:
        """Nothing more is written; the file is to be removed. Never raises."""


Opened = Callable[[BinaryIO], ReadingsFile]
