"""What stands in the footer of a file, beside its schema: which records of which topic it has, as JSON."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

FOOTER = "iot-stream"  # the key of it among the footer's metadata


class FileSource(Struct, frozen=True):
    """Where the rows of a file are from."""

    topic: str
    topic_id: str  # as Kafka's tools print it; "-" where the broker gives none
    partition: int
    schema: str  # the struct its columns were made of
    sink: str  # the name of the instance

    def footer(self, first: int, last: int, rows: int, merged: Sequence[str] = ()) -> "Footer":
        """The footer of so many rows, from the offset `first` to `last`."""
        return Footer(self, first, last, rows, merged)


class Footer(Struct, frozen=True, omit_defaults=True):
    """The origin of a file's rows."""

    source: FileSource
    first: int  # offset of the first row
    last: int  # and of the last
    rows: int
    merged: Sequence[str] = ()  # names of the files that it replaces, in its own directory

    def metadata(self) -> Mapping[str, str]:
        """For pyarrow's add_key_value_metadata."""
        return {FOOTER: msgspec.json.encode(self).decode()}


def footer_of(metadata: Mapping[bytes, bytes] | None) -> Footer | None:
    """The footer among a file's key-value metadata; None where there is none that this program wrote."""
    found = (metadata or {}).get(FOOTER.encode())
    try:
        return None if found is None else msgspec.json.decode(found, type=Footer)
    except msgspec.MsgspecError:
        return None
