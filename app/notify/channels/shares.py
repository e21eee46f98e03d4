"""How much of the sending one user, or one service, may take up: in, lanes that want to send; out, which of them may.

A service that hangs keeps what sends to it waiting; with its share alone, the others send meanwhile.
"""

from collections import Counter


class Shares:
    """At most `of_one` messages under way for each key; lanes beyond that wait here."""

    def __init__(self, of_one: int) -> None:
        self._of_one = of_one
        self._under_way: Counter[str] = Counter()
        self._waiting: dict[str, list[str]] = {}  # lanes by the key of which there is too much

    def enter(self, lane: str, *keys: str) -> bool:
        """Whether the lane may send now, for all these keys; if not, a later `leave` returns the lane."""
        for key in keys:
            if self._under_way[key] >= self._of_one:
                self._waiting.setdefault(key, []).append(lane)
                return False
        self._under_way.update(keys)
        return True

    def leave(self, *keys: str) -> list[str]:
        """A message of these keys is not under way any more; returns the lanes that may try to `enter` again."""
        self._under_way.subtract(keys)
        for key in keys:
            if not self._under_way[key]:
                del self._under_way[key]
        return [lane for key in keys for lane in self._waiting.pop(key, ())]
