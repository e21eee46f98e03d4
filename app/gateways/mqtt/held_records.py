"""What the bridge still holds of connections that are gone: records to be written whatever the broker kept.

The broker has acknowledged these messages to the devices. Whether it will send them again is known only once it says
that it kept the session, and even then it may have lost some; so nothing is forgotten. When it does send one again, the
copy is not written a second time: it only asks for its PUBACK, which goes out behind the record held.
"""

from collections.abc import Iterable

from app.gateways.record import IngestRecord


class HeldRecords:
    """The messages of ended connections that await a PUBACK, by packet id."""

    def __init__(self) -> None:
        self._records: dict[int, IngestRecord] = {}

    def __len__(self) -> int:
        return len(self._records)

    def keep(self, records: Iterable[IngestRecord]) -> None:
        """Hold `records`, whose connection is gone: they are owed no PUBACK until they come again. Those of QoS 0 are
        left out.
        """
        for record in records:
            if record.packet_id:
                self._records[record.packet_id] = record
                record.packet_id = 0

    def forget(self) -> None:
        """Hold nothing any more: the session is gone, and its packet ids mean nothing; the records are written all the
        same.
        """
        self._records.clear()

    def without_copies(self, records: list[IngestRecord]) -> list[IngestRecord]:
        """`records` as they arrived, with a `copy` in the place of each that is held already.

        The broker sends again before anything new, with the packet id of the first time: the first message of
        QoS 1 that is new ends the matching, and a packet id with another content is another message.
        """
        found = []
        for record in records:
            first = self._records.pop(record.packet_id, None) if record.packet_id else None
            if record.packet_id and not record.again:
                self._records.clear()
            elif first is not None and first.value == record.value and first.headers[0] == record.headers[0]:
                record = copy(first, record.packet_id)
            found.append(record)
        return found


def copy(first: IngestRecord, packet_id: int) -> IngestRecord:
    """A record in the place of a message held already: what is owed for it is its PUBACK alone."""
    return IngestRecord(first.kind, first.key, first.value, first.headers, packet_id, first.ingest_ms, True, True)
