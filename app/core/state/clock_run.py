"""What a device's state keeps about its clock while it may have been set back, and after it was."""

from msgspec import Struct


class ClockRun(Struct, array_like=True):
    """Late readings in a row. Times are microseconds since 1970, those of arrival milliseconds."""

    readings: int
    first: int
    first_at: int
    last: int
    last_at: int
    sequence: int | None = None  # of the last; None where the device sends none


class ClockBack(Struct, array_like=True):
    """There is none while time only goes on. Encoded as an array: add fields only at the end and with defaults."""

    run: ClockRun | None = None
    # Until times are newer than all that were known before, they are passed once more: with the offset that showed it,
    # an episode that opens at the very time of an earlier one gets another id. -1: it was not set back.
    offset: int = -1
    high: int = 0
    # Its partition has another log, which may hold again what was in the one before: late readings say nothing about a
    # clock until one comes that is not late.
    anew: bool = False

    @property
    def salt(self) -> int:
        """What tells episodes of now from those of the same times before."""
        return (self.offset + 1) * 100_000  # more than a rule opens at one instant
