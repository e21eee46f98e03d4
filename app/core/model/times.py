"""Times as microseconds since 1970 and as datetimes."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


MICROSECOND = timedelta(microseconds=1)


def micros(time: datetime) -> int:
    """Microseconds since 1970, exact, of an aware time."""
    return (time - EPOCH) // MICROSECOND


def moment(micros: int) -> datetime:
    """The time, in UTC, of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)
