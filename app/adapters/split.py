"""One write in two parts, live rows and late ones, and the two answers put together again."""

from collections.abc import Sequence

from app.core.model import Row
from app.core.write import Written


class Split:
    """`live` in the order given, `late` in the order of the indexes `late`."""

    def __init__(self, rows: Sequence[Row], late: Sequence[int]) -> None:
        apart = set(late)
        self._late = late
        self._live = [index for index in range(len(rows)) if index not in apart] if len(apart) < len(rows) else []
        self.live = [rows[index] for index in self._live]
        self.late = [rows[index] for index in late]

    def join(self, live: Written, late: Written) -> Written:
        """The answer to the whole write, its indexes those of the rows as given."""
        refused = [(self._live[index], wrong) for index, wrong in live.refused]
        refused += [(self._late[index], wrong) for index, wrong in late.refused]
        return Written(
            live.rows + late.rows, live.duplicates + late.duplicates, tuple(sorted(refused)), live.refused_effects
        )
