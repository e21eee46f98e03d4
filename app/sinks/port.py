"""The port of all ways out: what the runner asks of a sink, and what a sink answers.

The runner asks one thing at a time: it calls no method of a sink while another one of the same sink runs, `held` and
`due` excepted. So a sink needs no lock, and its memory is what `add` was given and no `flush` has taken off.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from app.errors import SettingsError, TransientError
from app.sinks.record import SinkRecord


class Held(NamedTuple):
    """What a sink has in memory and has not written."""

    records: int = 0
    bytes: int = 0  # about what they take in memory
    oldest: float | None = None  # when the first of them was added, in seconds of time.monotonic; None: there is none
    full: bool = False  # as many as the sink's own settings let it hold; the runner bounds the bytes


class Flushed(NamedTuple):
    """How far a flush came."""

    upto: Mapping[int, int] = {}  # {partition: offset}: every record before the offset that was added is done with
    refused: Sequence[tuple[SinkRecord, str]] = ()  # what it never takes, and why: these become dead letters


NOTHING_FLUSHED = Flushed()


class SinkUnavailable(TransientError):
    """The destination does not take anything now; the same call may succeed later.

    `cure` says what an operator has to do, when it does not come back by itself; `retry_after`: not before so many
    seconds; `so_far`: what was done all the same, which is not to be done again.
    """

    def __init__(
        self, why: str, *, cure: str = "", retry_after: float = 0.0, so_far: Flushed = NOTHING_FLUSHED
    ) -> None:
        super().__init__(f"{why}: {cure}" if cure else why)
        self.cure, self.retry_after, self.so_far = cure, retry_after, so_far


class SinkMisconfigured(SettingsError):
    """The destination can never take anything as this sink is set; str() names the setting. Ends the program."""


class Sink(Protocol):
    """A destination. Made with `(name, settings)`: its own name, and the Settings with those of its table laid over.

    Making one connects to nothing and raises SinkMisconfigured for settings that do not go together.
    """

    @property
    def name(self) -> str:
        """The instance: "parquet", "influx-eu"; label of its metrics and part of its consumer group."""

    @property
    def kind(self) -> str:
        """Its kind, of app.sinks.router.KINDS."""

    @property
    def linger(self) -> float:
        """Longest that a record may be held before a flush, in seconds; 0: whatever was read is flushed at once."""

    async def open(self) -> None:
        """Connect, and look whether the destination would take what is written. Called again after a failure.

        Raises SinkUnavailable, which is tried again, and SinkMisconfigured.
        """

    async def resume(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """How far the destination is, as it knows it: {partition: offset}, of these that were just assigned; none of a
        sink that keeps no offsets. Raises SinkUnavailable.

        Reading goes on where the group has committed all the same: a process that ended between a flush and its dead
        letters has sent none of them. So `add` is given records again that are before this offset: the sink leaves out
        those that the destination has, and refuses those again that it never takes.
        """

    async def begin_anew(self, partitions: Collection[int]) -> None:
        """The logs of these partitions have lost their end, or are of another topic: they are read from their start,
        and an offset that the destination has may be that of another record now. Called after `resume`, before `add`.

        Nothing to do for a sink that keeps no offsets. Safe to call again. Raises SinkUnavailable.
        """

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Take records into memory, in order by partition. Never waits, never fails."""

    @property
    def held(self) -> Held:
        """What is in memory now; asked after every `add`, so it has to be at hand."""

    @property
    def due(self) -> bool:
        """Whether what is held is enough for a flush; the runner sees to `linger`."""

    async def flush(self) -> Flushed:
        """Write what is held, all of it or as far as it came, and let go of what is written or refused.

        Raises SinkUnavailable, and then holds what is not written; the call is made again. May be cancelled at any
        await: what was under way counts as not written, and is held; what was done before is in the answer to the next
        call, which is made also when nothing is held. What is written twice must do no harm, as far as the destination
        can tell a repeat.
        """

    async def revoked(self, partitions: Collection[int]) -> None:
        """Drop what is held of these partitions: whoever owns them next reads it."""

    async def close(self) -> None:
        """Let go of all connections; nothing is written any more. Safe before `open`, and twice. Never raises."""


class SampleText(Protocol):
    """What a sink that can show a sample has beside the port (`iot-stream sink NAME --check`)."""

    def shown(self, records: Sequence[SinkRecord]) -> Sequence[str]:
        """What would be written of these records, in lines for a person; nothing is written."""
