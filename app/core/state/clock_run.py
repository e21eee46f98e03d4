"""What a device's state keeps about the device's clock while the clock may have been set back, and after it was."""

from msgspec import Struct


class ClockRun(Struct, array_like=True):
    """Late readings in a row. Event times are microseconds since 1970, times of arrival milliseconds."""

    readings: int
    first: int
    first_at: int
    last: int
    last_at: int
    sequence: int | None = None  # sequence_id of the last reading; None where the device sends none


class ClockBack(Struct, array_like=True):
    """A clock that may have been set back; a state has none while its time only goes on.

    Encoded as an array: add fields only at the end and with defaults.
    """

    run: ClockRun | None = None
    # The offset of the record that showed the setback; -1: the clock was not set back. Until times are newer than all
    # times known before, they are passed once more: with this offset an episode that opens at the very time of an
    # earlier episode gets another id.
    offset: int = -1
    high: int = 0
    # The device's partition has another log, which may hold again what was in the log before: late readings say nothing
    # about a clock until a reading comes that is not late.
    anew: bool = False

    @property
    def salt(self) -> int:
        """A number that distinguishes episodes of now from episodes of the same times before the setback."""
        return (self.offset + 1) * 100_000  # more than a rule opens at one instant
