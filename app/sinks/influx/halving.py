"""Lines -> the server, where one bad line has a whole request refused: halved until the bad line stands alone.

A server that says of which field it has another type saves the halving: all lines with such a field are asked about at
once, now and in the next batches.
"""

from collections.abc import Awaitable, Callable, Sequence

from app.sinks.influx.conflicts import Conflict, Conflicts

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
        clean, suspects = self._conflicts.sorted(lines)
        waiting: list[tuple[Sequence[int], Conflict | None]] = [(part, known) for known, part in suspects.items()]
        if clean:
            waiting.append((clean, None))
        refused: list[tuple[int, str]] = []
        checked = False
        while waiting:
            part, known = waiting.pop()
            said = await self._post(_body(lines, part))
            if said is None:
                if known is not None:
                    self._conflicts.forget(known)
                continue
            if not checked:
                await self._check()  # a server that takes no lines at all must not make dead letters of them
                checked = True
            alike, rest = self._split(lines, part, said)
            if rest:
                waiting += [(rest, None), (alike, None)]
            else:
                refused += [(index, said) for index in alike]
        return refused

    def _split(self, lines: Sequence[str], part: Sequence[int], said: str) -> tuple[Sequence[int], Sequence[int]]:
        """The part in two, to be asked about apart; the second is empty where all of the first are refused as said."""
        conflict = self._conflicts.learn(said)
        if len(part) == 1:
            return part, ()
        if conflict is not None:
            alike = [index for index in part if self._conflicts.is_in(lines[index], conflict)]
            if alike:
                there = frozenset(alike)
                return alike, [index for index in part if index not in there]
        middle = len(part) // 2
        return part[:middle], part[middle:]


def _body(lines: Sequence[str], indices: Sequence[int]) -> bytes:
    return "".join([f"{lines[index]}\n" for index in indices]).encode("utf-8", "replace")
