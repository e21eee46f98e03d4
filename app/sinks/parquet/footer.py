"""The metadata in the footer of a file, beside its schema: topic, partition and offsets of its records, as JSON."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

FOOTER = "iot-stream"  # the key in the footer's metadata


class FileSource(Struct, frozen=True):
    """The origin of the rows of a file."""

    topic: str
    topic_id: str  # as printed by Kafka's tools; "-" from a broker without topic ids
    partition: int
    schema: str  # the struct of its columns
    sink: str  # the name of the instance

    def footer(self, first: int, last: int, rows: int, merged: Sequence[str] = ()) -> "Footer":
        """The footer of a file of `rows` rows, from the offset `first` to `last`."""
        return Footer(self, first, last, rows, merged)


class Footer(Struct, frozen=True, omit_defaults=True):
    """The origin and the offsets of a file's rows."""

    source: FileSource
    first: int  # offset of the first row
    last: int  # offset of the last row
    rows: int
    merged: Sequence[str] = ()  # names of the files that this file replaces, in its own directory

    def metadata(self) -> Mapping[str, str]:
        """The argument of pyarrow's add_key_value_metadata."""
        return {FOOTER: msgspec.json.encode(self).decode()}


def footer_of(metadata: Mapping[bytes, bytes] | None) -> Footer | None:
    """The footer in a file's key-value metadata; None for a file of another program."""
    found = (metadata or {}).get(FOOTER.encode())
    try:
        return None if found is None else msgspec.json.decode(found, type=Footer)
    except msgspec.MsgspecError:
        return None
