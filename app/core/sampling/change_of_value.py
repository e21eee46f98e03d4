"""Change of value: which readings of a device are stored, and which say no more than the reading stored last.

A reading is dropped when each watched key of the reading is within its dead-band of the value stored last, and the
last stored reading is not older than the heartbeat. The decisions are kept for the last KEPT readings that were stored,
so that a record that comes again after a crash is decided as the first time.
"""

from msgspec import Struct

from app.core.model.records import Reading
from app.core.rules.field_readers import Read, reportable

KEPT = 64  # 5 bytes each in the state; a crash repeats about a second of records, and most of them were dropped


class Band(Struct, frozen=True, gc=False):
    """How far a key's value may move from the value stored last: so much, plus a share of that value's magnitude."""

    key: str
    read: Read
    absolute: float = 0.0
    share: float = 0.0  # of 1
    column: str | None = None  # the reading's column, where the key is one


class Policy(Struct, frozen=True, gc=False):
    """The dead-bands and the heartbeat of one device."""

    bands: tuple[Band, ...]
    heartbeat: int  # microseconds of event time


class StoredChain(Struct, array_like=True):
    """What was stored last, and which offsets were stored."""

    since: int  # of the stepped records from this offset on, the ones in `offsets` were stored and all others dropped
    time: int | None = None  # of the reading stored last, microseconds since 1970
    values: dict[str, int | float] = {}  # by key, as stored last
    offsets: list[int] = []

    def dropped(self, offset: int) -> bool:
        """Whether a record that comes again was dropped; False for a record from before what is known."""
        return offset >= self.since and offset not in self.offsets

    def stored(self, offset: int) -> None:
        """Note that the record at this offset was stored, and forget the oldest note."""
        self.offsets.append(offset)
        if len(self.offsets) > KEPT:
            self.since = self.offsets.pop(0) + 1

    def must_store(self, reading: Reading, time: int, policy: Policy, must: bool = False) -> bool:
        """Whether a reading, not older than the last, has to be stored; the next readings are then compared with it.

        `time` is in microseconds since 1970. `must`: the reading is stored whatever its values.
        """
        found: dict[str, int | float] = {}
        moved = must or self.time is None or time - self.time >= policy.heartbeat
        for band in policy.bands:
            value = reportable(band.read(reading))
            if value is None or isinstance(value, str):
                moved = moved or _is_there(band, reading)  # a value that cannot be compared is not left out
                continue
            found[band.key] = value
            last = self.values.get(band.key)
            moved = moved or last is None or abs(value - last) > band.absolute + abs(last) * band.share
        if not moved and found:
            return False
        if not found.keys() >= self.values.keys():
            known = {band.key for band in policy.bands}
            found = {key: value for key, value in self.values.items() if key in known} | found
        self.values, self.time = found, time
        return True


def _is_there(band: Band, reading: Reading) -> bool:
    if band.column is not None:
        return getattr(reading, band.column) is not None
    return band.key in reading.extra or band.key.partition(".")[0] in reading.extra
