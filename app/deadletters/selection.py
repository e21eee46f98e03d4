"""Which dead letters are meant: reasons, stages, topics, users, devices, times and offsets, each of which must fit."""

import msgspec
from msgspec import Struct
from xxhash import xxh3_64_hexdigest

from app.core.rules.globs import Globs
from app.deadletters.letter import Letter
from app.kafka.reading.offset_ranges import OffsetRange


class Selection(Struct, frozen=True):
    """What a command was asked for; an option that was not given leaves all in."""

    reasons: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()  # globs of MQTT topics; `*` takes in slashes too
    user: str | None = None
    devices: tuple[str, ...] = ()  # globs
    partitions: tuple[int, ...] = ()
    offsets: tuple[OffsetRange, ...] = ()
    since: str | None = None  # as it was given
    until: str | None = None

    @property
    def is_all(self) -> bool:
        """Whether every dead letter is meant."""
        return self == Selection()

    def words(self) -> dict[str, object]:
        """What was given, for JSON."""
        given: dict[str, object] = msgspec.to_builtins(self)
        return {name: value for name, value in given.items() if value not in (None, (), [])}

    def digest(self, more: str = "") -> str:
        """A short name of the selection, and of what is done with it: the same for the same options in any order."""
        parts = {
            name: sorted(map(repr, value)) if isinstance(value, (list, tuple)) else value
            for name, value in self.words().items()
        }
        return xxh3_64_hexdigest(msgspec.json.encode([parts, more], order="sorted"))[:12]

    def wants_partition(self, partition: int) -> bool:
        """Whether any offset of a partition is meant."""
        if self.partitions and partition not in self.partitions:
            return False
        return not self.offsets or any(one.partition in (None, partition) for one in self.offsets)

    def first(self, partition: int) -> int:
        """The lowest offset of a partition that is meant."""
        return min((one.first for one in self.offsets if one.partition in (None, partition)), default=0)

    def end(self, partition: int, end: int) -> int:
        """The offset before which the letters of a partition are, which ends at `end`."""
        lasts = [one.last for one in self.offsets if one.partition in (None, partition)]
        if not lasts or None in lasts:
            return end
        return min(end, max(last for last in lasts if last is not None) + 1)


class Chooser:
    """A selection with its times resolved, ready to look at letters. Times are milliseconds since 1970, both
    inclusive; None: no limit.
    """

    def __init__(self, selection: Selection, since_ms: int | None = None, until_ms: int | None = None) -> None:
        self.selection, self.since_ms, self.until_ms = selection, since_ms, until_ms
        self._topics = Globs(selection.topics) if selection.topics else None
        self._devices = Globs(selection.devices) if selection.devices else None
        self._reasons, self._stages = frozenset(selection.reasons), frozenset(selection.stages)

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        asked = self.selection
        return (
            (not self._reasons or letter.reason in self._reasons)
            and (not self._stages or letter.dead.stage in self._stages)
            and asked.user in (None, letter.user_id)
            and (self._devices is None or self._devices.takes_in(letter.device_id))
            and (self._topics is None or self._topics.takes_in(letter.dead.original_topic))
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms <= self.until_ms)
            and self._is_there(letter.partition, letter.offset)
        )

    def _is_there(self, partition: int, offset: int) -> bool:
        asked = self.selection
        if asked.partitions and partition not in asked.partitions:
            return False
        return not asked.offsets or any(one.has(partition, offset) for one in asked.offsets)
