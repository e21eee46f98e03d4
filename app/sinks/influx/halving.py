"""Lines -> the server, which refuses a whole request for one bad line: the request is halved until that line is alone.

A more precise message saves the halving. If the message names a field with a conflicting type, all lines with that
field are sent together, also in the next batches; if the message says that lines are beyond retention, the oldest lines
are sent together; and if the server has dropped as many lines as the request had, all lines are refused.
"""

import re
from collections.abc import Awaitable, Callable, Sequence

from app.sinks.influx.conflicts import Alike, Conflicts, time_of

Part = tuple[Sequence[int], Alike | None]  # indices of lines, and their common conflict, if any
TOO_OLD = "beyond retention policy"  # in the messages of InfluxDB 1 and 2
_DROPPED = re.compile(r"dropped=([0-9]+)\s*$")
Post = Callable[[bytes], Awaitable[str | None]]  # a body in; None: taken, else why it is refused


class Halving:
    """Writes lines, and remembers the fields for which lines were refused."""

    def __init__(self, post: Post, check: Callable[[], Awaitable[None]]) -> None:
        """`post` and `check` raise SinkUnavailable; `check` returns when the server would accept valid lines."""
        self._post, self._check = post, check
        self._conflicts = Conflicts()

    async def write(self, lines: Sequence[str]) -> list[tuple[int, str]]:
        """Write lines, given without line ends. Returns the index of each refused line and why, in no order.

        Lines that were taken may be sent again meanwhile, which is idempotent. Raises as `post` and `check` do; then
        the outcome of all lines is unknown.
        """
        waiting = self._parts(lines, range(len(lines)))
        refused: list[tuple[int, str]] = []
        checked = False
        while waiting:
            part, alike = waiting.pop()
            said = await self._post(_body(lines, part))
            if said is None:
                if alike is not None:
                    self._conflicts.forget(alike.conflict)
                continue
            if not checked:
                await self._check()  # if the server takes no lines at all, none may be dead-lettered
                checked = True
            if further := self._split(lines, part, said):
                waiting += further
            else:
                refused += [(index, said) for index in part]
        return refused

    def _split(self, lines: Sequence[str], part: Sequence[int], said: str) -> list[Part]:
        """The part divided into parts to be sent separately; empty when the whole part is refused."""
        conflict, dropped = self._conflicts.learn(said), _DROPPED.search(said)
        if len(part) == 1 or (dropped and int(dropped[1]) == len(part)):
            return []
        found = self._parts(lines, part)
        if len(found) > 1:
            return found
        ((_, alike),) = found
        if conflict is not None and alike is not None and alike.conflict == conflict:
            return []
        if TOO_OLD in said:
            part = sorted(part, key=lambda index: time_of(lines[index]))
        middle = len(part) // 2
        return [(part[middle:], None), (part[:middle], None)]

    def _parts(self, lines: Sequence[str], part: Sequence[int]) -> list[Part]:
        """Lines with a known conflict separate from the other lines; the last part is sent first."""
        clean, suspects = self._conflicts.sorted(lines, part)
        found: list[Part] = [(indices, alike) for alike, indices in suspects.items()]
        return [*found, (clean, None)] if clean else found


def _body(lines: Sequence[str], indices: Sequence[int]) -> bytes:
    return "".join([f"{lines[index]}\n" for index in indices]).encode("utf-8", "replace")
