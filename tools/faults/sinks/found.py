"""The audit of a destination: in, the found and the sent readings; out, lost, doubled and wrong readings."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tools.audit import EXAMPLES
from tools.faults.stream import Stream

Times = Mapping[str, bytearray]  # by letter of a stream, the count of each message on the input topic


class FoundReading(NamedTuple):
    """One reading found at a destination."""

    device: str
    n: int  # its sequence_id
    temperature: float


class Audit:
    """`problems` of one destination; `repeats`: the number of repeated readings, where repeats are allowed."""

    def __init__(self, what: str, streams: Sequence[Stream], times: Times) -> None:
        self._what, self._streams, self._times = what, {stream.letter: stream for stream in streams}, times
        self.problems: list[str] = []
        self.repeats = 0

    def problem(self, what: str, examples: Iterable[Any]) -> None:
        """Note a problem with some examples, if there are examples."""
        found = list(examples)
        if found:
            shown = ", ".join(str(one)[:200] for one in found[:EXAMPLES])
            self.problems.append(f"{self._what}: {what}: {len(found)}, such as {shown}")

    def each_as_often_as_on_the_topic(self, found: Iterable[FoundReading]) -> None:
        """For files: one row for each record that is a reading, and no further row."""
        rows = self._known(found)
        wanted = Counter({key: count for key, count in self._wanted()})
        self.problem("lost", (wanted - rows).elements())
        self.problem("doubled", (rows - wanted).elements())

    def each_once(self, found: Iterable[FoundReading]) -> None:
        """For destinations that overwrite: a repeated reading is present once."""
        rows = self._known(found)
        wanted = {key for key, _ in self._wanted()}
        self.problem("lost", wanted - rows.keys())
        self.problem("doubled", (key for key, count in rows.items() if count > 1))

    def the_last_of_each_device(self, found: Iterable[FoundReading]) -> None:
        """For last values: the newest sent reading of each device."""
        rows = self._known(found)
        newest: dict[tuple[str, int], int] = {}
        for (letter, n), _ in self._wanted():
            place = letter, n % self._streams[letter].devices
            newest[place] = max(n, newest.get(place, -1))
        wanted = Counter((letter, n) for (letter, _), n in newest.items())
        self.problem("not the last value", (rows - wanted).elements())
        self.problem("no last value, or an older value", (wanted - rows).elements())

    def each_at_least_once_and_in_order(self, found: Sequence[FoundReading]) -> None:
        """For pushed readings: each reading of a device follows its predecessor, also after a repeat.

        A device's readings may restart at an earlier reading, as after a crash; no reading may be skipped.
        """
        rows = self._known(found)
        wanted = [key for key, _ in self._wanted()]
        self.problem("lost", set(wanted) - rows.keys())
        self.repeats = sum(rows.values()) - len(rows)
        place: dict[str, int] = {}  # by device, the position of its last reading
        order: dict[tuple[str, int], int] = {}
        count: Counter[str] = Counter()
        for letter, n in sorted(wanted):
            device = self._streams[letter].device(n)
            order[letter, n] = count[device]
            count[device] += 1
        jumped = []
        for one in found:
            number = order.get((one.device[0], one.n))
            if number is None:
                continue
            if number > place.get(one.device, -1) + 1:
                jumped.append((one.device, one.n))
            place[one.device] = number
        self.problem("before its predecessor", jumped)

    def _wanted(self) -> Iterable[tuple[tuple[str, int], int]]:
        """((letter, n), count on the topic) of each good message on the topic."""
        for letter, stream in self._streams.items():
            for n, count in enumerate(self._times[letter]):
                if count and not stream.bad(n):
                    yield (letter, n), count

    def _known(self, found: Iterable[FoundReading]) -> Counter[tuple[str, int]]:
        """The count of each reading that equals its sent message; any other reading is a problem."""
        rows: Counter[tuple[str, int]] = Counter()
        wrong = []
        for one in found:
            stream = self._streams.get(one.device[:1])
            if stream is not None and one.n >= 0 and not stream.bad(one.n) and _is(one, stream):
                rows[one.device[0], one.n] += 1
            else:
                wrong.append(one)
        self.problem("unexpected or altered readings", wrong)
        return rows


def _is(one: FoundReading, stream: Stream) -> bool:
    return (one.device, one.temperature) == (stream.device(one.n), stream.temperature(one.n))
