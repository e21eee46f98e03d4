"""An estimate of the distinct series over the limit: names in, an estimate out, in constant memory."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import structlog

log = structlog.get_logger()

LG_K = 12  # 4 kB, an error of 1.6 %
LG_K_OF_USER = 10  # 1 kB, 3.2 %
USERS = 200  # users with an estimate of their own; series of further users count for the sink only


@lru_cache(maxsize=1)
def _hll_sketch() -> Any:
    """The class of datasketches, None without the package. Imported on first use, as the import takes 0.1 s."""
    try:
        from datasketches import hll_sketch
    except ModuleNotFoundError:
        cure = "pip install 'iot-stream[sinks]'"
        log.warning("series_not_estimated", reason="there is no package datasketches", cure=cure)
        return None
    return hll_sketch


class SeriesSketch:
    """HyperLogLog (datasketches) of the series over the limit: of all users, and of each of the first USERS."""

    def __init__(self) -> None:
        self._all: Any = None
        self._of_users: dict[str, Any] = {}

    def add(self, user_id: str, device: str, field: str) -> None:
        """Count a series over the limit; without the package datasketches nothing is counted."""
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
        """The estimated number of series over the limit since the start."""
        return round(self._all.get_estimate()) if self._all is not None else 0

    @property
    def of_users(self) -> Mapping[str, int]:
        """The same for each user with an estimate."""
        return {user: round(sketch.get_estimate()) for user, sketch in self._of_users.items()}
