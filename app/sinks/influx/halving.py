"""Lines -> the server, where one bad line has a whole request refused: halved until the bad line stands alone.

A server that says more saves the halving. Of a field that it has as another type, all lines with such a field are asked
about at once, now and in the next batches; of lines that are older than what it keeps, the old ones together; and where
it has dropped as many as there were, all are refused.
"""

import re
from collections.abc import Awaitable, Callable, Sequence

from app.sinks.influx.conflicts import Alike, Conflicts, time_of

Part = tuple[Sequence[int], Alike | None]  # indices of lines; what they have in common, if anything
TOO_OLD = "beyond retention policy"  # in the words of InfluxDB 1 and 2
_DROPPED = re.compile(r"dropped=([0-9]+)\s*$")
Post = Callable[[bytes], Awaitable[str | None]]  # a body; None: taken, else why it is refused


class Halving:
    """Writes lines, and keeps in mind for which fields lines were refused."""

    def __init__(self, post: Post, check: Callable[[], Awaitable[None]]) -> None:
        """`post` and `check` raise SinkUnavailable; `check` returns when the server would take lines as such."""
        self._post, self._check = post, check
        self._conflicts = Conflicts()

    async def write(self, lines: Sequence[str]) -> list[tuple[int, str]]:
        """Write lines, which have no line end: the index of each one that is refused, and why, in no order.

        Lines that were taken may be sent again meanwhile, which is the same to the server. Raises what post and check
        do, and then nothing is known of any line.
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
                await self._check()  # a server that takes no lines at all must not make dead letters of them
                checked = True
            if further := self._split(lines, part, said):
                waiting += further
            else:
                refused += [(index, said) for index in part]
        return refused

    def _split(self, lines: Sequence[str], part: Sequence[int], said: str) -> list[Part]:
        """The part in several, to be asked about apart; none when all of it is refused as said."""
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
        """Those in a conflict that is known apart from the others; the first to be asked about is the last."""
        clean, suspects = self._conflicts.sorted(lines, part)
        found: list[Part] = [(indices, alike) for alike, indices in suspects.items()]
        return [*found, (clean, None)] if clean else found


def _body(lines: Sequence[str], indices: Sequence[int]) -> bytes:
    return "".join([f"{lines[index]}\n" for index in indices]).encode("utf-8", "replace")
