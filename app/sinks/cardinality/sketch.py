"""About how many different series there are beyond the limit: names in, an estimate out, in memory that never grows."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import structlog

log = structlog.get_logger()

LG_K = 12  # 4 kB, an error of 1.6 %
LG_K_OF_USER = 10  # 1 kB, 3.2 %
USERS = 200  # whose series are estimated; those of more users count for the sink alone


@lru_cache(maxsize=1)
def _hll_sketch() -> Any:
    """The class of datasketches, None where it is not installed; 0.1 s to import, and most programs never need it."""
    try:
        from datasketches import hll_sketch
    except ModuleNotFoundError:
        cure = "pip install 'iot-stream[sinks]'"
        log.warning("series_not_estimated", reason="there is no package datasketches", cure=cure)
        return None
    return hll_sketch


class SeriesSketch:
    """HyperLogLog (datasketches) of the series over the limit: of all, and of the users that came first."""

    def __init__(self) -> None:
        self._all: Any = None
        self._of_users: dict[str, Any] = {}

    def add(self, user_id: str, device: str, field: str) -> None:
        """A series that is over the limit; without the package datasketches it is not counted."""
        made = _hll_sketch()
        if made is None:
            return
        if self._all is None:
            self._all = made(LG_K)
        name = f"{device}\0{field}"
        self._all.update(name)
        sketch = self._of_users.get(user_id)
        if sketch is None and len(self._of_users) < USERS:
            sketch = self._of_users[user_id] = made(LG_K_OF_USER)
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
