"""Readings from the future: what rules see of them.

A reading that is ahead would make all that follow it look late: no alerts until its time has come. So to the rules a
reading is never later than its record's own time, which the bridge or Kafka gave it, and which is the same at a replay.
"""

from datetime import UTC, datetime, timedelta

import msgspec

from app.core.model import Reading, Record

AHEAD_MAX = timedelta(seconds=1)  # clocks differ; a device that is ahead by less keeps its own times

_NEVER = datetime.max.replace(tzinfo=UTC)


def soonest_ahead(second: int) -> datetime:
    """No reading up to then is ahead of a record whose time lies in this second since 1970; without a time, none is."""
    return datetime.fromtimestamp(second, UTC) + AHEAD_MAX if 0 < second < 10**11 else _NEVER


def not_ahead(reading: Reading, record: Record) -> Reading:
    """The reading as rules see it: no later than just after it came in. Its row keeps the time it bears."""
    latest = datetime.fromtimestamp(record.timestamp / 1000, UTC) + AHEAD_MAX
    return msgspec.structs.replace(reading, time=latest) if reading.time > latest else reading
