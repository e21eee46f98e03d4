"""The port of all sinks: the calls that the runner makes, and what a sink returns.

The runner makes one call at a time: no method of a sink runs while another method of the same sink does, except `held`
and `due`. So a sink needs no lock. Its buffer is the records that `add` was given and no `flush` has completed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from app.errors import SettingsError, TransientError
from app.sinks.record import SinkRecord


class Held(NamedTuple):
    """The buffer of a sink: records in memory that are not written."""

    records: int = 0
    bytes: int = 0  # about how much memory the records take
    oldest: float | None = None  # when the first record was added, in seconds of time.monotonic; None: no record
    full: bool = False  # the limit of the sink's own settings is reached; the runner bounds the bytes


class Flushed(NamedTuple):
    """The result of a flush."""

    upto: Mapping[int, int] = {}  # {partition: offset}: every added record before the offset is completed
    refused: Sequence[tuple[SinkRecord, str]] = ()  # records that are refused for ever, and why: they are dead-lettered


NOTHING_FLUSHED = Flushed()
MayWrite: TypeAlias = Callable[[], bool]  # whether the partitions are surely assigned to this process at this moment


def always() -> bool:
    """The MayWrite of a process that shares its partitions with no other process."""
    return True


class SinkUnavailable(TransientError):
    """The destination is unavailable; the same call may succeed later.

    `cure`: what an operator has to do, if the destination does not recover by itself; `retry_after`: seconds before the
    next try; `so_far`: the part of a flush that was completed, which must not be repeated.
    """

    def __init__(
        self, why: str, *, cure: str = "", retry_after: float = 0.0, so_far: Flushed = NOTHING_FLUSHED
    ) -> None:
        super().__init__(f"{why}: {cure}" if cure else why)
        self.cure, self.retry_after, self.so_far = cure, retry_after, so_far


class SinkMisconfigured(SettingsError):
    """With these settings the destination can never take anything; str() names the setting. Ends the program."""


class Sink(Protocol):
    """A destination. Its constructor takes `(name, settings)`: the instance's name, and Settings with its table merged.

    The constructor connects to nothing and raises SinkMisconfigured for settings that contradict each other.
    """

    @property
    def name(self) -> str:
        """The instance: "parquet", "influx-eu"; label of its metrics and part of its consumer group."""

    @property
    def kind(self) -> str:
        """Its kind, of app.sinks.router.KINDS."""

    @property
    def linger(self) -> float:
        """Longest time a record may be buffered before a flush, in seconds; 0: every read is flushed at once."""

    async def open(self) -> None:
        """Connect, and check that the destination would accept writes. Called again after a failure.

        Raises SinkUnavailable, after which the call is retried, and SinkMisconfigured.
        """

    async def resume(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """The next offsets by the destination's own account, {partition: offset}, of newly assigned partitions; empty
        for a sink that stores no offsets. Raises SinkUnavailable.

        Reading resumes at the committed offsets all the same, as a process may have ended after a flush and before its
        dead letters. So `add` may be given records before these offsets again: the sink leaves out the records that the
        destination has, and refuses again the records that the destination never takes.
        """

    async def begin_anew(self, partitions: Collection[int]) -> None:
        """The logs of these partitions were truncated, or belong to another topic: they are read from their start, and
        an offset that the destination has may now be another record's. Called after `resume`, before `add`.

        A sink that stores no offsets does nothing. Safe to call again. Raises SinkUnavailable.
        """

    def add(self, records: Sequence[SinkRecord]) -> None:
        """Buffer records, in order by partition. Never waits, never fails."""

    @property
    def held(self) -> Held:
        """What is buffered now; read after every `add`, so the answer must be cheap."""

    @property
    def due(self) -> bool:
        """Whether enough is buffered for a flush; the runner checks `linger`."""

    async def flush(self, may_write: MayWrite = always) -> Flushed:
        """Write the buffer, whole or in part, and remove what is written or refused from the buffer.

        `may_write` is asked right before each batch, with no wait in between where possible: a process that was stalled
        wakes in the middle of a flush. Once the answer is False, the flush ends and returns what was completed.

        Raises SinkUnavailable; then the buffer keeps what is not written, and the call is retried. May be cancelled at
        any await: a write in progress counts as not written and stays buffered; what was completed before is in the
        result of the next call, which is made even with an empty buffer. A record that is written twice must do no
        harm, as far as the destination can detect a repeat.
        """

    async def revoked(self, partitions: Collection[int]) -> None:
        """Drop the buffered records of these partitions: the next owner reads them."""

    async def close(self) -> None:
        """Close all connections; nothing more is written. Safe before `open`, and twice. Never raises."""


class SampleText(Protocol):
    """Implemented by a sink that can print a sample (`iot-stream sink NAME --check`)."""

    def shown(self, records: Sequence[SinkRecord]) -> Sequence[str]:
        """What would be written for these records, as lines of text; nothing is written."""
