"""Fields that a server stores with another type: the server's messages in; out, the lines with the same conflict.

InfluxDB stores one type per field of a measurement in each shard, for all senders; shards begin and end with an hour.
Without this memory, each line of a sender whose `mode` is a text where the server has a number would be found by
halving, in every batch, while all other lines wait.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from app.sinks.influx.escape import measurement, name

HOUR = 3_600_000_000  # microseconds
CONFLICTS_MAX = 32  # known at a time; each line is checked for all of these
_SAID = re.compile(
    r'input field "(?P<field>.+?)" on measurement "(?P<measurement>.+?)" is type (?P<type>\w+), already exists as type '
)
_VALUE = {
    "string": '"',
    "boolean": "[tTfF]",
    "integer": "[-0-9]+i[, ]",
    "unsigned": "[0-9]+u[, ]",
    "float": "[-+.0-9eE]+[, ]",
}
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"')


class Conflict(NamedTuple):
    """A field of a measurement that the server has with another type than `type`; names as in the server's message."""

    field: str
    measurement: str
    type: str


class Alike(NamedTuple):
    """The common properties of lines that the server either takes all or refuses all."""

    conflict: Conflict
    hour: int  # since 1970


class Conflicts:
    """The recent conflicts."""

    def __init__(self) -> None:
        self._known: dict[Conflict, tuple[str, str, re.Pattern[str]]] = {}  # start of line, field, pattern

    def learn(self, said: str) -> Conflict | None:
        """The conflict that a server's message names, which is added; None: the message names no conflict."""
        found = _SAID.search(said)
        if found is None or found["type"] not in _VALUE:
            return None
        conflict = Conflict(found["field"], found["measurement"], found["type"])
        if conflict not in self._known:
            if len(self._known) >= CONFLICTS_MAX:
                self._known.pop(next(iter(self._known)))
            field = f"{name(conflict.field)}="
            pattern = re.compile(f"[ ,]{re.escape(field)}{_VALUE[conflict.type]}")
            self._known[conflict] = measurement(conflict.measurement), field, pattern
        return conflict

    def forget(self, conflict: Conflict) -> None:
        """Remove a conflict: the server has taken such a line."""
        self._known.pop(conflict, None)

    def sorted(self, lines: Sequence[str], part: Sequence[int]) -> tuple[list[int], dict[Alike, list[int]]]:
        """Of the lines with the indices `part`, the lines without a known conflict, and the lines with one."""
        if not self._known:
            return list(part), {}
        clean: list[int] = []
        suspects: dict[Alike, list[int]] = {}
        for number in part:
            conflict = self._conflict_of(lines[number])
            if conflict is None:
                clean.append(number)
            else:
                suspects.setdefault(Alike(conflict, time_of(lines[number]) // HOUR), []).append(number)
        return clean, suspects

    def _is_in(self, line: str, conflict: Conflict) -> bool:
        """Whether the line has the field of a known conflict, with a value of its type."""
        start, field, pattern = self._known[conflict]
        if field not in line or not line.startswith(start) or line[len(start)] not in ", ":
            return False
        return pattern.search(_TEXT.sub('""', line)) is not None  # the content of a text is no field

    def _conflict_of(self, line: str) -> Conflict | None:
        return next((conflict for conflict in self._known if self._is_in(line, conflict)), None)


def time_of(line: str) -> int:
    """The time at the end of a line, microseconds since 1970."""
    return int(line[line.rindex(" ") + 1 :])
