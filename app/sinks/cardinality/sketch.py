"""About how many different series there are beyond the limit: names in, an estimate out, in memory that never grows."""

from collections.abc import Mapping
from typing import Any

LG_K = 12  # 4 kB, an error of 1.6 %
LG_K_OF_USER = 10  # 1 kB, 3.2 %
USERS = 200  # whose series are estimated; those of more users count for the sink alone


class SeriesSketch:
    """HyperLogLog (datasketches) of the series over the limit: of all, and of the users that came first."""

    def __init__(self) -> None:
        self._all: Any = None
        self._of_users: dict[str, Any] = {}

    def add(self, user_id: str, device: str, field: str) -> None:
        """A series that is over the limit. Raises ModuleNotFoundError without the package datasketches."""
        from datasketches import hll_sketch  # 30 ms to import, and most sinks never need it

        if self._all is None:
            self._all = hll_sketch(LG_K)
        name = f"{device}\0{field}"
        self._all.update(name)
        sketch = self._of_users.get(user_id)
        if sketch is None and len(self._of_users) < USERS:
            sketch = self._of_users[user_id] = hll_sketch(LG_K_OF_USER)
        if sketch is not None:
            sketch.update(name)

    @property
    def estimate(self) -> int:
        """About how many series were over the limit since the start."""
        return round(self._all.get_estimate()) if self._all is not None else 0

    @property
    def of_users(self) -> Mapping[str, int]:
        """The same of the users that are estimated."""
        return {user: round(sketch.get_estimate()) for user, sketch in self._of_users.items()}
